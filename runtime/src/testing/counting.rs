//! A store that counts what is asked of it.

use std::{
    ops::RangeInclusive,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use axum::BoxError;
use time::OffsetDateTime;

use crate::{
    session::for_each_release,
    store::{
        EncodedLoad, FirstTouch, SessionId, StoreOf, Touch, Touched,
        release::{OwnStore, Record, RecordRef, StoreError, session_store},
    },
};

/// Wraps a store and counts what is asked of it. Clones share the counts.
///
/// Given to `SessionManagerLayer` it counts what tower-sessions asks for; given to a
/// [`LifetimeLayer`](crate::LifetimeLayer), what becomes of that.
///
/// ```
/// # #[cfg(all(feature = "tower-sessions-0_14", feature = "memory-store"))] {
/// use session_refresh::{LifetimeLayer, store::Serialized, testing::CountingStore};
/// use tower_sessions::{MemoryStore, SessionManagerLayer};
///
/// let counting = CountingStore::new(Serialized::new(MemoryStore::default()));
/// let sessions = LifetimeLayer::new(counting.clone(), |store| SessionManagerLayer::new(store));
/// // .. a request that is not due:
/// assert_eq!(counting.take().writes(), 0);
/// # let _: axum::Router = axum::Router::new().layer(sessions); }
/// ```
#[derive(Clone, Debug, Default)]
pub struct CountingStore<S> {
    store: S,
    counts: Arc<Counters>,
}

#[derive(Debug, Default)]
struct Counters {
    creates: AtomicUsize,
    loads: AtomicUsize,
    saves: AtomicUsize,
    touches: AtomicUsize,
    deletes: AtomicUsize,
}

impl Counters {
    fn add(counter: &AtomicUsize) {
        counter.fetch_add(1, Ordering::SeqCst);
    }
}

/// What was asked of a [`CountingStore`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// New sessions.
    pub creates: usize,
    /// Records read.
    pub loads: usize,
    /// Records written in full.
    pub saves: usize,
    /// Expiries moved, or found not to be due.
    pub touches: usize,
    /// Records deleted.
    pub deletes: usize,
}

impl Counts {
    /// Everything but loads.
    #[must_use]
    pub const fn writes(self) -> usize {
        self.creates + self.saves + self.touches + self.deletes
    }
}

impl<S> CountingStore<S> {
    /// Counts what is asked of `store`.
    pub fn new(store: S) -> Self {
        Self {
            store,
            counts: Arc::default(),
        }
    }

    /// The store inside: what is asked of it is not counted.
    #[must_use]
    pub fn uncounted(&self) -> &S {
        &self.store
    }

    /// What was asked since the last time.
    #[must_use]
    pub fn take(&self) -> Counts {
        let take = |counter: &AtomicUsize| counter.swap(0, Ordering::SeqCst);
        Counts {
            creates: take(&self.counts.creates),
            loads: take(&self.counts.loads),
            saves: take(&self.counts.saves),
            touches: take(&self.counts.touches),
            deletes: take(&self.counts.deletes),
        }
    }
}

impl<S: StoreOf<R>, R: 'static> OwnStore<R> for CountingStore<S> {
    async fn create(&self, record: &mut Record) -> Result<(), StoreError> {
        Counters::add(&self.counts.creates);
        self.store.create(record).await
    }

    async fn save(&self, record: RecordRef<'_>) -> Result<(), StoreError> {
        Counters::add(&self.counts.saves);
        self.store.save(record.to_owned()).await
    }

    async fn load(&self, id: SessionId) -> Result<Option<Record>, StoreError> {
        Counters::add(&self.counts.loads);
        self.store.load(id).await
    }

    async fn delete(&self, id: SessionId) -> Result<(), StoreError> {
        Counters::add(&self.counts.deletes);
        self.store.delete(id).await
    }
}

impl<S: Touch> Touch for CountingStore<S> {
    async fn touch(
        &self,
        id: SessionId,
        due: RangeInclusive<OffsetDateTime>,
        expiry: OffsetDateTime,
    ) -> Result<Touched, BoxError> {
        Counters::add(&self.counts.touches);
        self.store.touch(id, due, expiry).await
    }

    fn latest_expiry(&self) -> OffsetDateTime {
        self.store.latest_expiry()
    }

    fn is_in_lifetime_layer(&self) {
        self.store.is_in_lifetime_layer();
    }

    async fn touch_first(&self, touch: FirstTouch) -> Result<Option<Touched>, BoxError> {
        let touched = self.store.touch_first(touch).await;
        if !matches!(touched, Ok(None)) {
            Counters::add(&self.counts.touches);
        }
        touched
    }

    async fn save_passively(&self, record: &Record) -> Result<Option<()>, StoreError> {
        let saved = self.store.save_passively(record).await;
        if !matches!(saved, Ok(None)) {
            Counters::add(&self.counts.saves);
        }
        saved
    }

    async fn load_encoded(&self, id: SessionId) -> Result<EncodedLoad, StoreError> {
        let loaded = self.store.load_encoded(id).await;
        if !matches!(loaded, Ok(EncodedLoad::Unsupported)) {
            Counters::add(&self.counts.loads);
        }
        loaded
    }
}

macro_rules! counting_store {
    ($release:ident, $tower_sessions:ident) => {
        session_store!(
            $release, $tower_sessions,
            [S] CountingStore<S> where [S: $tower_sessions::SessionStore]
        );
    };
}

for_each_release!(counting_store);
