//! A touch for any store, safe within one process.

use std::{fmt, marker::PhantomData, sync::Arc};

use axum::BoxError;
use time::OffsetDateTime;
use tokio::sync::Mutex;

use super::{
    release::{OwnStore, Record, RecordRef, SessionId, StoreError, StoreOf, session_store},
    touch::{FirstTouch, Touch, Touched, touch_first},
};
use crate::session::{V0_14, for_each_release};

/// Makes any store able to touch, one thing at a time: whatever concerns one session waits for its turn.
///
/// Within one process nothing gets lost between a touch, a save and a delete, and a save does not bring a deleted session
/// back. It loads before it saves, so a save costs a load more, and a touch writes the whole record.
///
/// What it can't promise: anything about other processes on the same store, or about clones of the inner store that
/// are used beside it. There a touch can still overwrite what another has saved, or bring a session back, in the
/// moment between its load and its save. Where the store can do better, use one that touches by itself.
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
    locks: Arc<[Arc<Mutex<()>>]>,
    /// Whether a load may write, as a cache's does, and so has to take its turn.
    loads_write: bool,
    release: PhantomData<fn() -> R>,
}

/// Sessions share locks by their ids: enough that they seldom meet, few enough to cost nothing.
const LOCKS: usize = 256;

impl<S: StoreOf<R>, R> Serialized<S, R> {
    /// Wraps `store`.
    pub fn new(store: S) -> Self {
        Self {
            store: Arc::new(store),
            locks: (0..LOCKS).map(|_| Arc::default()).collect(),
            loads_write: true,
            release: PhantomData,
        }
    }

    /// Wraps a store that is known to write nothing when it loads.
    #[cfg(feature = "memory-store")]
    pub(crate) fn new_reading(store: S) -> Self {
        Self {
            loads_write: false,
            ..Self::new(store)
        }
    }
}

impl<S: Send + Sync + 'static, R> Serialized<S, R> {
    /// Does `work` when it is this session's turn, and to its end: a store may go on writing after whoever asked it to has
    /// lost patience, and until then it is nobody else's turn.
    async fn in_turn<T, F>(
        &self,
        id: SessionId,
        work: impl FnOnce(Arc<S>) -> F,
    ) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, StoreError>> + Send + 'static,
    {
        let index = usize::from(id.0.to_le_bytes()[0]) % self.locks.len();
        let turn = Arc::clone(&self.locks[index]).lock_owned().await;
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
        self.in_turn(id, save).await
    }

    async fn load(&self, id: SessionId) -> Result<Option<Record>, StoreError> {
        if !self.loads_write {
            return self.store.load(id).await;
        }
        self.in_turn(id, |store| async move { store.load(id).await })
            .await
    }

    async fn delete(&self, id: SessionId) -> Result<(), StoreError> {
        self.in_turn(id, |store| async move { store.delete(id).await })
            .await
    }
}

impl<S: StoreOf<R>, R: 'static> Touch for Serialized<S, R> {
    async fn touch(
        &self,
        id: SessionId,
        due_before: OffsetDateTime,
        expiry: OffsetDateTime,
    ) -> Result<Touched, BoxError> {
        let touch = |store: Arc<S>| async move {
            let Some(mut record) = store.load(id).await? else {
                return Ok(Touched::Gone);
            };
            if record.expiry_date > due_before || record.expiry_date >= expiry {
                return Ok(Touched::NotDue);
            }
            record.expiry_date = expiry;
            store.save(record).await?;
            Ok(Touched::Done)
        };
        Ok(self.in_turn(id, touch).await?)
    }

    async fn touch_first(&self, touch: FirstTouch) -> Result<Option<Touched>, BoxError> {
        let id = touch.id;
        let first = |store: Arc<S>| async move { touch_first(&*store, &touch).await };
        Ok(Some(self.in_turn(id, first).await?))
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
        impl super::touch::sealed::IntoTouch for $tower_sessions::MemoryStore {}

        #[cfg(feature = "memory-store")]
        #[cfg_attr(docsrs, doc(cfg(feature = "memory-store")))]
        impl super::touch::IntoTouch for $tower_sessions::MemoryStore {
            type Store = Serialized<Self, crate::session::$release>;

            fn into_touch(self) -> Self::Store {
                Serialized::new_reading(self)
            }
        }
    };
}

for_each_release!(serialized);

impl<S, R> Clone for Serialized<S, R> {
    fn clone(&self) -> Self {
        Self {
            store: Arc::clone(&self.store),
            locks: Arc::clone(&self.locks),
            loads_write: self.loads_write,
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
