//! A store that counts what is asked of it.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use async_trait::async_trait;
use tower_sessions::{
    SessionStore,
    session::{Id, Record},
    session_store::Result,
};

/// Wraps a store and counts. Clones share the counts.
#[derive(Clone, Debug, Default)]
pub struct CountingStore<S> {
    inner: S,
    counts: Arc<Counters>,
}

#[derive(Debug, Default)]
struct Counters {
    creates: AtomicUsize,
    loads: AtomicUsize,
    saves: AtomicUsize,
    deletes: AtomicUsize,
}

/// What was asked of a [`CountingStore`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// New sessions.
    pub creates: usize,
    /// Records read.
    pub loads: usize,
    /// Records written.
    pub saves: usize,
    /// Records deleted.
    pub deletes: usize,
}

impl<S> CountingStore<S> {
    /// Counts what is asked of `inner`.
    pub fn new(inner: S) -> Self {
        Self {
            inner,
            counts: Arc::default(),
        }
    }

    /// The store inside: what is asked of it is not counted.
    #[must_use]
    pub fn uncounted(&self) -> &S {
        &self.inner
    }

    /// What was asked since the last time.
    #[must_use]
    pub fn take(&self) -> Counts {
        let take = |counter: &AtomicUsize| counter.swap(0, Ordering::SeqCst);
        Counts {
            creates: take(&self.counts.creates),
            loads: take(&self.counts.loads),
            saves: take(&self.counts.saves),
            deletes: take(&self.counts.deletes),
        }
    }
}

#[async_trait]
impl<S: SessionStore> SessionStore for CountingStore<S> {
    async fn create(&self, record: &mut Record) -> Result<()> {
        self.counts.creates.fetch_add(1, Ordering::SeqCst);
        self.inner.create(record).await
    }

    async fn save(&self, record: &Record) -> Result<()> {
        self.counts.saves.fetch_add(1, Ordering::SeqCst);
        self.inner.save(record).await
    }

    async fn load(&self, id: &Id) -> Result<Option<Record>> {
        self.counts.loads.fetch_add(1, Ordering::SeqCst);
        self.inner.load(id).await
    }

    async fn delete(&self, id: &Id) -> Result<()> {
        self.counts.deletes.fetch_add(1, Ordering::SeqCst);
        self.inner.delete(id).await
    }
}
