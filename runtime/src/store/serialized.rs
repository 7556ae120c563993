//! A touch for any store, safe within one process.

use std::sync::Arc;

use time::OffsetDateTime;
use tokio::sync::Mutex;

use super::{Touch, Touched};
use crate::session::{
    ExpiredDeletion, Id, Record, SessionStore,
    store_error::{Error, Result},
};

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
/// use session_refresh::store::{RefreshStore, Serialized};
/// use tower_sessions::{CachingSessionStore, MemoryStore};
///
/// // A cache in front of a store: every touch reaches both.
/// let cached = CachingSessionStore::new(MemoryStore::default(), MemoryStore::default());
/// let store = RefreshStore::new(Serialized::new(cached));
/// # let _ = store;
/// ```
#[derive(Clone, Debug)]
pub struct Serialized<S> {
    store: Arc<S>,
    locks: Arc<[Arc<Mutex<()>>]>,
}

/// Sessions share locks by their ids: enough that they seldom meet, few enough to cost nothing.
const LOCKS: usize = 256;

impl<S> Serialized<S> {
    /// Wraps `store`.
    pub fn new(store: S) -> Self {
        Self {
            store: Arc::new(store),
            locks: (0..LOCKS).map(|_| Arc::default()).collect(),
        }
    }
}

impl<S: SessionStore> Serialized<S> {
    /// Does `work` when it is this session's turn, and to its end: a store may go on writing after whoever asked it to has
    /// lost patience, and until then it is nobody else's turn.
    async fn in_turn<T, F>(&self, id: &Id, work: impl FnOnce(Arc<S>) -> F) -> Result<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
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
                Err(error) => Err(Error::Backend(error.to_string())),
            })
    }
}

#[async_trait::async_trait]
impl<S: SessionStore> SessionStore for Serialized<S> {
    async fn create(&self, record: &mut Record) -> Result<()> {
        self.store.create(record).await
    }

    async fn save(&self, record: &Record) -> Result<()> {
        let (id, record) = (record.id, record.clone());
        let save = |store: Arc<S>| async move {
            match store.load(&id).await? {
                Some(_) => store.save(&record).await,
                None => Ok(()),
            }
        };
        self.in_turn(&id, save).await
    }

    /// Takes its turn, too: a cache writes when it loads.
    async fn load(&self, id: &Id) -> Result<Option<Record>> {
        let id = *id;
        self.in_turn(&id, |store| async move { store.load(&id).await })
            .await
    }

    async fn delete(&self, id: &Id) -> Result<()> {
        let id = *id;
        self.in_turn(&id, |store| async move { store.delete(&id).await })
            .await
    }
}

#[async_trait::async_trait]
impl<S: ExpiredDeletion> ExpiredDeletion for Serialized<S> {
    async fn delete_expired(&self) -> Result<()> {
        self.store.delete_expired().await
    }
}

impl<S: SessionStore> Touch for Serialized<S> {
    async fn touch(
        &self,
        id: &Id,
        due_before: OffsetDateTime,
        expiry: OffsetDateTime,
    ) -> Result<Touched> {
        let id = *id;
        let touch = |store: Arc<S>| async move {
            let Some(mut record) = store.load(&id).await? else {
                return Ok(Touched::Gone);
            };
            if record.expiry_date > due_before || record.expiry_date >= expiry {
                return Ok(Touched::NotDue);
            }
            record.expiry_date = expiry;
            store.save(&record).await?;
            Ok(Touched::Done)
        };
        self.in_turn(&id, touch).await
    }
}
