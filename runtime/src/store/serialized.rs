//! A touch for any store, safe within one process.

use std::{
    collections::HashMap,
    fmt,
    marker::PhantomData,
    ops::RangeInclusive,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::BoxError;
use time::OffsetDateTime;
use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};

use super::{
    attempt::within,
    release::{OwnStore, Record, RecordRef, SessionId, StoreError, StoreOf, session_store},
    touch::{FirstTouch, Touch, Touched, touch_first},
};
use crate::session::{V0_14, for_each_release};

/// Makes any store able to touch: whoever writes a session waits until nobody else is busy with the same session.
///
/// Within one process nothing gets lost between a touch, a save and a delete, and a save does not bring a deleted session
/// back. It loads before it saves, so a save costs a load more, and a touch writes the whole record.
///
/// What it can't promise: anything about other processes on the same store, or about clones of the inner store that
/// are used beside it. There a touch can still overwrite what another has saved, or bring a session back, in the
/// moment between its load and its save. Where the store can do better, use one that touches by itself.
///
/// Nobody waits for another session. Loads of one session wait for nobody but a write of it, since a cache may be filled by
/// them: see [`without_cache`](Self::without_cache). A touch, save or delete that takes longer than ten seconds, its turn
/// included, is an error, as is a load where that waits,
/// see [`with_limit`](Self::with_limit): a store that never answers costs the sessions that it does not answer for, and no
/// others. What is being written then is still waited for by other writes, since it may yet arrive.
///
/// ```
/// # #[cfg(feature = "tower-sessions-0_14")] {
/// use session_refresh::{LifetimeLayer, store::Serialized};
/// use tower_sessions::{CachingSessionStore, MemoryStore, SessionManagerLayer};
///
/// // A cache in front of a store: every touch reaches both.
/// let cached = CachingSessionStore::new(MemoryStore::default(), MemoryStore::default());
/// let sessions = LifetimeLayer::new(Serialized::new(cached), |store| SessionManagerLayer::new(store));
/// # let _: axum::Router = axum::Router::new().layer(sessions); }
/// ```
///
/// `R` is the release of tower-sessions that the store belongs to. [`new`](Self::new) sees it by itself.
pub struct Serialized<S, R = V0_14> {
    store: Arc<S>,
    turns: Turns,
    /// Whether a load may write, as a cache's does, and so has to take its turn.
    loads_write: bool,
    limit: Duration,
    release: PhantomData<fn() -> R>,
}

/// How long one may take if the application does not say.
const DEFAULT_LIMIT: Duration = Duration::from_secs(10);

impl<S: StoreOf<R>, R> Serialized<S, R> {
    /// Wraps `store`.
    pub fn new(store: S) -> Self {
        Self {
            store: Arc::new(store),
            turns: Turns::default(),
            loads_write: true,
            limit: DEFAULT_LIMIT,
            release: PhantomData,
        }
    }

    /// Wraps a store whose loads write nothing: any but one with a cache in front, such as tower-sessions'
    /// `CachingSessionStore`. They wait for nobody.
    pub fn without_cache(store: S) -> Self {
        Self {
            loads_write: false,
            ..Self::new(store)
        }
    }
}

impl<S, R> Serialized<S, R> {
    /// How long a save, delete or touch may take, and a load if not [`without_cache`](Self::without_cache), the wait for its
    /// turn included. Default: ten seconds.
    #[must_use]
    pub fn with_limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }
}

impl<S: Send + Sync + 'static, R> Serialized<S, R> {
    /// Does `work` when it is its turn, and to its end: a store may go on writing after whoever asked it to has lost patience,
    /// and until then it is nobody else's turn.
    async fn in_turn<T, F>(
        &self,
        id: SessionId,
        access: Access,
        work: impl FnOnce(Arc<S>) -> F,
    ) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, StoreError>> + Send + 'static,
    {
        let in_turn = async {
            let mut turn = self.turns.queue(id);
            turn.comes(access).await;
            let work = work(Arc::clone(&self.store));
            let task = tokio::spawn(async move {
                let _turn = turn;
                work.await
            });
            task.await
                .unwrap_or_else(|error| match error.try_into_panic() {
                    Ok(panic) => std::panic::resume_unwind(panic),
                    Err(error) => Err(StoreError::Backend(error.to_string())),
                })
        };
        within(self.limit, in_turn)
            .await
            .map_err(StoreError::Backend)?
    }
}

/// Who is busy with which session: many may load it, or one may write it.
#[derive(Clone, Debug, Default)]
struct Turns {
    /// A lock for each session that somebody is busy with, or waits for.
    locks: Arc<Mutex<Locks>>,
}

type Locks = HashMap<SessionId, Arc<RwLock<()>>>;

#[derive(Clone, Copy)]
enum Access {
    Load,
    Write,
}

/// Somebody's place in the queue for a session, and then the turn. The last one to leave takes the lock away.
struct Turn {
    turns: Turns,
    id: SessionId,
    lock: Option<Arc<RwLock<()>>>,
    guard: Option<Held>,
}

#[allow(dead_code, reason = "they are held until they are dropped")]
enum Held {
    Load(OwnedRwLockReadGuard<()>),
    Write(OwnedRwLockWriteGuard<()>),
}

impl Turns {
    fn locks(&self) -> MutexGuard<'_, Locks> {
        self.locks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn queue(&self, id: SessionId) -> Turn {
        let lock = Arc::clone(self.locks().entry(id).or_default());
        Turn {
            turns: self.clone(),
            id,
            lock: Some(lock),
            guard: None,
        }
    }
}

impl Turn {
    async fn comes(&mut self, access: Access) {
        let Some(lock) = self.lock.clone() else {
            return;
        };
        self.guard = Some(match access {
            Access::Load => Held::Load(lock.read_owned().await),
            Access::Write => Held::Write(lock.write_owned().await),
        });
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.guard = None;
        // Everybody gives up what he has of the lock before he counts, so that the last one finds the map's alone.
        let mut locks = self.turns.locks();
        self.lock = None;
        if (locks.get(&self.id)).is_some_and(|lock| Arc::strong_count(lock) == 1) {
            locks.remove(&self.id);
        }
    }
}

impl<S: StoreOf<R>, R: 'static> OwnStore<R> for Serialized<S, R> {
    async fn create(&self, record: &mut Record) -> Result<(), StoreError> {
        self.store.create(record).await
    }

    async fn save(&self, record: RecordRef<'_>) -> Result<(), StoreError> {
        let id = record.id;
        let record = record.to_owned();
        let save = |store: Arc<S>| async move {
            match store.load(id).await? {
                Some(_) => store.save(record).await,
                None => Ok(()),
            }
        };
        self.in_turn(id, Access::Write, save).await
    }

    async fn load(&self, id: SessionId) -> Result<Option<Record>, StoreError> {
        if !self.loads_write {
            return self.store.load(id).await;
        }
        let load = |store: Arc<S>| async move { store.load(id).await };
        self.in_turn(id, Access::Load, load).await
    }

    async fn delete(&self, id: SessionId) -> Result<(), StoreError> {
        let delete = |store: Arc<S>| async move { store.delete(id).await };
        self.in_turn(id, Access::Write, delete).await
    }
}

impl<S: StoreOf<R>, R: 'static> Touch for Serialized<S, R> {
    async fn touch(
        &self,
        id: SessionId,
        due: RangeInclusive<OffsetDateTime>,
        expiry: OffsetDateTime,
    ) -> Result<Touched, BoxError> {
        let touch = |store: Arc<S>| async move {
            let Some(mut record) = store.load(id).await? else {
                return Ok(Touched::Gone);
            };
            if record.expiry_date > *due.end() || record.expiry_date >= expiry {
                return Ok(Touched::NotDue);
            }
            if record.expiry_date < *due.start() {
                return Ok(Touched::Shortened);
            }
            record.expiry_date = expiry;
            store.save(record).await?;
            Ok(Touched::Done)
        };
        Ok(self.in_turn(id, Access::Write, touch).await?)
    }

    async fn save_passively(&self, record: &Record) -> Result<Option<()>, StoreError> {
        let (id, mut record) = (record.id, record.clone());
        let save = |store: Arc<S>| async move {
            if let Some(found) = store.load(id).await? {
                record.expiry_date = record.expiry_date.max(found.expiry_date);
                store.save(record).await?;
            }
            Ok(())
        };
        self.in_turn(id, Access::Write, save).await.map(Some)
    }

    async fn touch_first(&self, touch: FirstTouch) -> Result<Option<Touched>, BoxError> {
        let id = touch.id;
        let first = |store: Arc<S>| async move { touch_first(&*store, &touch).await };
        Ok(Some(self.in_turn(id, Access::Write, first).await?))
    }
}

macro_rules! serialized {
    ($release:ident, $tower_sessions:ident) => {
        session_store!(
            $release, $tower_sessions,
            [S] Serialized<S, crate::session::$release> where [S: $tower_sessions::SessionStore]
        );

        #[async_trait::async_trait]
        impl<S: $tower_sessions::ExpiredDeletion> $tower_sessions::ExpiredDeletion
            for Serialized<S, crate::session::$release>
        {
            async fn delete_expired(&self) -> $tower_sessions::session_store::Result<()> {
                self.store.delete_expired().await
            }
        }

        #[cfg(feature = "memory-store")]
        impl super::touch::Wrap for $tower_sessions::MemoryStore {
            type Touching = Serialized<Self, crate::session::$release>;

            fn wrap(self) -> Self::Touching {
                Serialized::without_cache(self)
            }
        }
    };
}

for_each_release!(serialized);

impl<S, R> Clone for Serialized<S, R> {
    fn clone(&self) -> Self {
        Self {
            store: Arc::clone(&self.store),
            turns: self.turns.clone(),
            loads_write: self.loads_write,
            limit: self.limit,
            release: PhantomData,
        }
    }
}

impl<S: fmt::Debug, R> fmt::Debug for Serialized<S, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Serialized")
            .field("store", &self.store)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_lock_goes_with_the_last_who_is_busy_or_waits() {
        let turns = Turns::default();
        let id = SessionId(1);
        let mut first = turns.queue(id);
        first.comes(Access::Write).await;
        // One gives up, one goes away before it is tried, and one waits on.
        let mut second = turns.queue(id);
        let waited = tokio::time::timeout(Duration::from_secs(1), second.comes(Access::Load));
        assert!(waited.await.is_err());
        drop(second);
        drop(turns.queue(id));
        let mut third = turns.queue(id);
        let third = tokio::spawn(async move {
            third.comes(Access::Write).await;
        });
        tokio::task::yield_now().await;
        assert_eq!(turns.locks().len(), 1);
        drop(first);
        third.await.unwrap();
        assert!(turns.locks().is_empty());
    }

    #[tokio::test]
    async fn loads_wait_for_writes_alone_and_nobody_for_another_session() {
        let turns = Turns::default();
        let mut loads = [turns.queue(SessionId(1)), turns.queue(SessionId(1))];
        let at_once = async |turn: &mut Turn, access| {
            within(Duration::ZERO, turn.comes(access)).await.is_ok()
        };
        for load in &mut loads {
            assert!(at_once(load, Access::Load).await);
        }
        assert!(at_once(&mut turns.queue(SessionId(2)), Access::Write).await);
        let mut write = turns.queue(SessionId(1));
        assert!(!at_once(&mut write, Access::Write).await);
        drop(loads);
        assert!(at_once(&mut write, Access::Write).await);
        assert!(!at_once(&mut turns.queue(SessionId(1)), Access::Load).await);
    }
}
