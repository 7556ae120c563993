//! A touch for any store, safe within one process.

use std::sync::Arc;

use time::OffsetDateTime;
use tokio::sync::{Mutex, MutexGuard};

use super::{Touch, Touched};
use crate::session::{Id, Record, SessionStore, store_error::Result};

/// Makes any store able to touch, one thing at a time: touches, saves and deletes of one session wait for each other.
///
/// Within one process nothing gets lost between them, and a save does not bring a deleted session back. It loads
/// before it saves, so a save costs a load more, and a touch writes the whole record.
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
    store: S,
    locks: Arc<[Mutex<()>]>,
}

/// Sessions share locks by their ids: enough that they seldom meet, few enough to cost nothing.
const LOCKS: usize = 256;

impl<S> Serialized<S> {
    /// Wraps `store`.
    pub fn new(store: S) -> Self {
        Self {
            store,
            locks: (0..LOCKS).map(|_| Mutex::default()).collect(),
        }
    }

    async fn lock(&self, id: &Id) -> MutexGuard<'_, ()> {
        let index = usize::from(id.0.to_le_bytes()[0]) % self.locks.len();
        self.locks[index].lock().await
    }
}

#[async_trait::async_trait]
impl<S: SessionStore> SessionStore for Serialized<S> {
    async fn create(&self, record: &mut Record) -> Result<()> {
        self.store.create(record).await
    }

    async fn save(&self, record: &Record) -> Result<()> {
        let _one_at_a_time = self.lock(&record.id).await;
        match self.store.load(&record.id).await? {
            Some(_) => self.store.save(record).await,
            None => Ok(()),
        }
    }

    async fn load(&self, id: &Id) -> Result<Option<Record>> {
        self.store.load(id).await
    }

    async fn delete(&self, id: &Id) -> Result<()> {
        let _one_at_a_time = self.lock(id).await;
        self.store.delete(id).await
    }
}

impl<S: SessionStore> Touch for Serialized<S> {
    async fn touch(
        &self,
        id: &Id,
        due_before: OffsetDateTime,
        expiry: OffsetDateTime,
    ) -> Result<Touched> {
        let _one_at_a_time = self.lock(id).await;
        let Some(mut record) = self.store.load(id).await? else {
            return Ok(Touched::Gone);
        };
        if record.expiry_date > due_before || record.expiry_date >= expiry {
            return Ok(Touched::NotDue);
        }
        record.expiry_date = expiry;
        self.store.save(&record).await?;
        Ok(Touched::Done)
    }
}
