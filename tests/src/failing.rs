//! A store that fails when told to.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use async_trait::async_trait;
use tower_sessions::{
    SessionStore,
    session::{Id, Record},
    session_store::{Error, Result},
};

/// Wraps a store whose loads and saves a test can make fail. Clones share the orders.
#[derive(Clone, Debug, Default)]
pub struct FailingStore<S> {
    inner: S,
    orders: Arc<Orders>,
}

#[derive(Debug, Default)]
struct Orders {
    /// Loads that still succeed, plus one; zero: all of them do.
    loads: AtomicUsize,
    fail_saves: AtomicBool,
}

impl<S> FailingStore<S> {
    /// Wraps `inner`, which works until told otherwise.
    pub fn new(inner: S) -> Self {
        Self {
            inner,
            orders: Arc::default(),
        }
    }

    /// From now on loads fail, but for the next `successes`.
    pub fn fail_loads_after(&self, successes: usize) {
        self.orders.loads.store(successes + 1, Ordering::SeqCst);
    }

    /// From now on saves fail.
    pub fn fail_saves(&self) {
        self.orders.fail_saves.store(true, Ordering::SeqCst);
    }

    /// From now on everything works.
    pub fn mend(&self) {
        self.orders.loads.store(0, Ordering::SeqCst);
        self.orders.fail_saves.store(false, Ordering::SeqCst);
    }
}

/// In words that no log should have.
fn failure(id: &Id) -> Error {
    Error::Backend(format!(
        "the store is down: {id} is not reached, nor {id:?}"
    ))
}

#[async_trait]
impl<S: SessionStore> SessionStore for FailingStore<S> {
    async fn create(&self, record: &mut Record) -> Result<()> {
        self.inner.create(record).await
    }

    async fn save(&self, record: &Record) -> Result<()> {
        if self.orders.fail_saves.load(Ordering::SeqCst) {
            return Err(failure(&record.id));
        }
        self.inner.save(record).await
    }

    async fn load(&self, id: &Id) -> Result<Option<Record>> {
        match self.orders.loads.load(Ordering::SeqCst) {
            0 => {}
            1 => return Err(failure(id)),
            _ => {
                self.orders.loads.fetch_sub(1, Ordering::SeqCst);
            }
        }
        self.inner.load(id).await
    }

    async fn delete(&self, id: &Id) -> Result<()> {
        self.inner.delete(id).await
    }
}
