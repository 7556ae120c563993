//! Time that a test advances.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use time::{Duration, OffsetDateTime};

/// The real time plus what a test adds. Clones share it.
///
/// Give it to [`LifetimeLayer::with_clock`](crate::LifetimeLayer::with_clock), or with tower-sessions' layer alone to
/// [`RefreshLayer::clock`](crate::RefreshLayer::clock).
#[derive(Clone, Debug, Default)]
pub struct TestClock(Arc<AtomicI64>);

impl TestClock {
    /// Moves the time; a negative duration moves it back.
    ///
    /// # Panics
    /// If it is millions of years.
    pub fn advance(&self, by: Duration) {
        let milliseconds =
            i64::try_from(by.whole_milliseconds()).expect("a test advances by less than an age");
        self.0.fetch_add(milliseconds, Ordering::SeqCst);
    }

    /// The time now.
    #[must_use]
    pub fn now(&self) -> OffsetDateTime {
        OffsetDateTime::now_utc() + Duration::milliseconds(self.0.load(Ordering::SeqCst))
    }

    /// As a layer or a store takes it.
    pub fn as_fn(&self) -> impl Fn() -> OffsetDateTime + Send + Sync + use<> {
        let clock = self.clone();
        move || clock.now()
    }
}
