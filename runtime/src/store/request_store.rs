//! The store around the application's: a save of unchanged data becomes a touch.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use time::OffsetDateTime;
use tracing::{error, warn};

use super::{
    AnyStore, IntoTouch, SessionId, Touch, Touched,
    attempt::Backoff,
    release::{Record, RecordRef, Records, StoreError},
};
use crate::{
    TARGET,
    metrics::Touching,
    record::{self, Loaded},
    schedule::Millis,
    store::original::told,
};

/// Wraps the application's session store, so that a refresh moves a session's expiry and nothing else.
///
/// With it, a refresh can't overwrite what another request has written, can't bring a session back that has ended, and
/// writes the same few bytes whatever the session holds; and however many requests race, one of them refreshes.
/// Annotated handlers notice by themselves. It must be the outermost store, since what it adds to a loaded record is
/// for this request alone. A touch has a time limit, so it needs tokio's timers, which `#[tokio::main]` enables.
///
/// ```
/// # #[cfg(feature = "memory-store")] {
/// use session_refresh::store::RefreshStore;
/// use time::Duration;
/// use tower_sessions::{Expiry, MemoryStore, SessionManagerLayer};
///
/// let store = RefreshStore::new(MemoryStore::default());
/// let sessions = SessionManagerLayer::new(store).with_expiry(Expiry::OnInactivity(Duration::days(14)));
/// # let _ = sessions; }
/// ```
///
/// Every save through it that changes no data is a touch, also the one that `with_always_save` causes on each request. (A
/// record that was not encoded as upstream's stores do it, `with_always_save` writes in full once.)
/// Since a touch never shortens a session and never fails a page, `Session::set_expiry` alone takes effect only for a later
/// time and while the store answers: change some data with it where that matters.
#[derive(Clone)]
pub struct RefreshStore<S> {
    store: S,
    limit: Duration,
    clock: Option<Clock>,
    backoff: Arc<Backoff>,
}

type Clock = Arc<dyn Fn() -> OffsetDateTime + Send + Sync>;

/// How long a touch may take if the application does not say.
const DEFAULT_LIMIT: Duration = Duration::from_secs(2);

impl<S: Touch> RefreshStore<S> {
    /// Wraps `store`: one that can touch, or tower-sessions' `MemoryStore`.
    pub fn new(store: impl IntoTouch<Store = S>) -> Self {
        record::enable();
        Self {
            store: store.into_touch(),
            limit: DEFAULT_LIMIT,
            clock: None,
            backoff: Arc::default(),
        }
    }
}

impl<S> RefreshStore<S> {
    /// How long a touch may take before the page is served without it. Default: 2 seconds.
    ///
    /// A touch that fails or takes longer is logged, and the next request tries again. After three failures in a row,
    /// one request in a second tries, then one in two, in four and so on up to a minute, until one succeeds: an outage
    /// does not cost each request the limit.
    #[must_use]
    pub fn with_touch_limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Tells the time, for tests: by it a refresh is due, expiries are written, and a record counts as expired.
    ///
    /// The store itself goes by the real time, so the clock may only be ahead of that. It moves a fixed expiry
    /// (`Expiry::AtDateTime`) along with the others.
    #[must_use]
    pub fn with_clock(
        mut self,
        clock: impl Fn() -> OffsetDateTime + Send + Sync + 'static,
    ) -> Self {
        self.clock = Some(Arc::new(clock));
        self
    }

    /// How many touches have failed or taken too long since the start.
    #[must_use]
    pub fn failed_touches(&self) -> u64 {
        self.backoff.failures()
    }

    pub(crate) fn inner(&self) -> &S {
        &self.store
    }

    /// Whether a record has ended by the injected clock. By the real time, the store itself knows.
    fn has_ended(&self, expiry: Millis) -> bool {
        self.clock
            .as_ref()
            .is_some_and(|clock| expiry <= clock().into())
    }

    /// The expiry to write for a record that the session has dated by the real time.
    fn expiry(&self, dated: OffsetDateTime) -> Millis {
        Millis::from(dated).saturating_add(self.clock_ahead())
    }

    /// How far the injected clock is ahead, to a millisecond: asking two clocks takes a moment, too.
    fn clock_ahead(&self) -> time::Duration {
        let Some(clock) = &self.clock else {
            return time::Duration::ZERO;
        };
        let ahead = clock() - OffsetDateTime::now_utc() + time::Duration::microseconds(500);
        time::Duration::milliseconds(i64::try_from(ahead.whole_milliseconds()).unwrap_or(i64::MAX))
    }
}

impl<S: Touch> RefreshStore<S> {
    /// Touches within the limit. A failure is logged here.
    async fn touch(
        &self,
        id: SessionId,
        due_before: OffsetDateTime,
        expiry: OffsetDateTime,
    ) -> Result<Touched, TouchFailed> {
        let Some(attempt) = self.backoff.attempt() else {
            return Err(TouchFailed);
        };
        let touching = Touching::start();
        let reason = match tokio::time::timeout(
            self.limit,
            self.store.touch(id, due_before, expiry),
        )
        .await
        {
            Ok(Ok(touched)) => {
                touching.end(match touched {
                    Touched::Done => "done",
                    Touched::NotDue => "not_due",
                    Touched::Gone => "gone",
                });
                self.backoff.succeeded();
                return Ok(touched);
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!(
                "no answer within {}",
                humantime::format_duration(self.limit)
            ),
        };
        touching.end("failed");
        let pause = self.backoff.failed(attempt);
        error!(target: TARGET, error = reason, failed_touches = self.backoff.failures(), "could not touch the session");
        if let Some(pause) = pause {
            let pause = humantime::format_duration(pause).to_string();
            warn!(target: TARGET, pause, "touches keep failing: pausing");
        }
        Err(TouchFailed)
    }

    /// A save of unchanged data that no refresh asked for: `always_save`, `set_expiry`, or a change undone.
    async fn save_unchanged(&self, id: SessionId, expiry: Millis, loaded: Loaded) {
        // The layer saves once more after a refresh, to send the cookie: its expiry is that of the touch, a moment later.
        if loaded.touched && expiry.saturating_sub(time::Duration::MINUTE) <= loaded.expiry {
            return;
        }
        // A page that has not asked for a refresh does not fail for one either.
        let _logged = self.touch(id, expiry.into(), expiry.into()).await;
    }
}

impl<S: Touch + AnyStore<R>, R: 'static> Records<R> for RefreshStore<S> {
    async fn create(&self, record: &mut Record) -> Result<(), StoreError> {
        if let Some(commit) = Commit::current() {
            // The session has vanished since the engine looked, and a refresh never creates one.
            commit.finish(Committed::Gone);
            return Err(StoreError::Backend("a refresh creates no session".into()));
        }
        record::strip(&mut record.data);
        record.expiry_date = self.expiry(record.expiry_date).into();
        self.store.create(record).await
    }

    async fn save(&self, record: RecordRef<'_>) -> Result<(), StoreError> {
        let loaded = Loaded::of(record.data);
        if let Some(commit) = Commit::current() {
            match loaded {
                Some(loaded) if self.has_ended(loaded.expiry) => commit.finish(Committed::Gone),
                Some(loaded) if commit.unmodified || loaded.is_data(record.data) => {
                    let touched = self
                        .touch(record.id, commit.due_before, commit.expiry)
                        .await;
                    commit.finish(match touched {
                        Ok(Touched::Done) => Committed::Done(loaded.confirmed(record.data)),
                        Ok(Touched::NotDue) => Committed::NotDue,
                        Ok(Touched::Gone) => Committed::Gone,
                        Err(TouchFailed) => Committed::Failed,
                    });
                }
                // Changed data here means that something beside the handler is changing the session right now. Then it
                // will be saved anyway; a refresh writes no data.
                _ => {}
            }
            return Ok(());
        }
        let expiry = self.expiry(record.expiry_date);
        match loaded {
            Some(loaded) if loaded.is_data(record.data) && loaded.never_rewritten() => {
                self.save_unchanged(record.id, expiry, loaded).await;
                Ok(())
            }
            loaded => {
                if let Some(loaded) = loaded {
                    loaded.rewritten();
                }
                self.store
                    .save(Record {
                        id: record.id,
                        data: record::stripped(record.data),
                        expiry_date: expiry.into(),
                    })
                    .await
            }
        }
    }

    async fn load(&self, id: SessionId) -> Result<Option<Record>, StoreError> {
        let (loaded, fingerprint) = if S::TELLS {
            told(self.store.load(id)).await
        } else {
            (self.store.load(id).await, None)
        };
        let Some(mut record) = loaded? else {
            return Ok(None);
        };
        if self.has_ended(record.expiry_date.into()) {
            return Ok(None);
        }
        record::attach(
            &mut record.data,
            record.expiry_date,
            self.clock_ahead(),
            fingerprint,
        );
        Ok(Some(record))
    }

    async fn delete(&self, id: SessionId) -> Result<(), StoreError> {
        self.store.delete(id).await
    }
}

impl<S: fmt::Debug> fmt::Debug for RefreshStore<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RefreshStore")
            .field("store", &self.store)
            .field("limit", &self.limit)
            .finish_non_exhaustive()
    }
}

/// The touch failed, and that was logged.
struct TouchFailed;

/// What became of a refresh.
#[derive(Clone, Copy)]
pub(crate) enum Committed {
    /// The record was touched. With what its load knew of it: the handler may have loaded it once more.
    Done(Loaded),
    NotDue,
    Gone,
    /// The touch failed, and that was logged.
    Failed,
}

/// A refresh on its way through `Session::save`, which knows nothing of it, to the store and back.
#[derive(Clone)]
pub(crate) struct Commit {
    /// Whether the session is known to be as it was loaded.
    unmodified: bool,
    due_before: OffsetDateTime,
    expiry: OffsetDateTime,
    result: Arc<Mutex<Option<Committed>>>,
}

tokio::task_local! {
    static COMMIT: Commit;
}

impl Commit {
    pub(crate) fn new(
        unmodified: bool,
        due_before: OffsetDateTime,
        expiry: OffsetDateTime,
    ) -> Self {
        Self {
            unmodified,
            due_before,
            expiry,
            result: Arc::default(),
        }
    }

    fn current() -> Option<Self> {
        COMMIT.try_with(Self::clone).ok()
    }

    fn finish(&self, result: Committed) {
        *self.result.lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
    }

    /// What became of it; `None` if no touch was asked for, since the data is being changed.
    pub(crate) fn result(&self) -> Option<Committed> {
        *self.result.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs a save as the commit of a refresh.
pub(crate) async fn committing<F: Future>(commit: &Commit, save: F) -> F::Output {
    COMMIT.scope(commit.clone(), save).await
}
