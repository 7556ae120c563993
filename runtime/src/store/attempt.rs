//! Touches: each within a time limit, few at once, one at a time for each session, and paused when they keep failing.
//!
//! A touch is not abandoned: a query that nobody waits for any more goes on holding its connection. It runs to its end, which
//! the store's own limits see to, in a task that holds one of a few permits. Whoever asked waits for it no longer than the
//! limit, and counts for nothing if he goes away.

use std::{
    collections::{HashMap, HashSet},
    future::poll_fn,
    pin::{Pin, pin},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::Poll,
    time::Duration,
};

use axum::BoxError;
use foldhash::fast::RandomState;
use tokio::{
    sync::{Semaphore, watch},
    time::{Instant, error::Elapsed, timeout_at},
};

use super::{release::SessionId, touch::Touched};
use crate::{events, metrics::Touching, schedule::Extension, session::SessionError};

/// How long the store may take if the application does not say.
const DEFAULT_LIMIT: Duration = Duration::from_secs(2);

/// How many touches are under way at once: so many connections a store that stalls may hold.
const AT_ONCE: usize = 4;

/// A touch that nobody waits for any more is dropped after so many times the limit, for others to have its place: a client
/// without a timeout of its own may wait for ever for a host that has vanished.
const DROPPED_AFTER: u32 = 30;

/// So many failures in a row are borne before the first pause.
const PATIENCE: u32 = 3;
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// So many sessions whose touches fail are remembered.
const REMEMBERED: usize = 10_000;

/// A store's touches: how long one may take, and how they have fared.
#[derive(Clone, Debug)]
pub(crate) struct Attempts {
    limit: Duration,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    permits: Semaphore,
    state: Mutex<State>,
    failures: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    /// When the store fails as a whole: touches of different sessions, and none succeeds between them.
    all: Backoff,
    failing: HashSet<SessionId, RandomState>,
    /// Sessions of which a touch is under way, or has failed.
    sessions: HashMap<SessionId, OfSession, RandomState>,
}

/// One session's touches. Its trouble is its own: somebody may hold its row locked.
#[derive(Debug, Default)]
struct OfSession {
    backoff: Backoff,
    under_way: Option<UnderWay>,
}

/// A touch that is under way.
#[derive(Clone, Debug)]
struct UnderWay {
    extension: Extension,
    ended: watch::Receiver<Option<Ended>>,
}

/// What became of a touch, for everybody who waits for it.
type Ended = Result<Touched, TouchFailed>;

/// What a touch of a session does, on its way to the store.
pub(super) type Work = Pin<Box<dyn Future<Output = Result<Touched, BoxError>> + Send>>;

/// The touch failed, which was reported, or touches are paused since others have.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TouchFailed;

impl Default for Attempts {
    fn default() -> Self {
        Self {
            limit: DEFAULT_LIMIT,
            shared: Arc::new(Shared {
                permits: Semaphore::new(AT_ONCE),
                state: Mutex::default(),
                failures: AtomicU64::new(0),
            }),
        }
    }
}

impl Attempts {
    pub(crate) fn set_limit(&mut self, limit: Duration) {
        self.limit = limit;
    }

    /// Waits for the store no longer than the limit; `Err` is what to report.
    pub(super) async fn in_time<F: Future>(&self, work: F) -> Result<F::Output, String> {
        within(self.limit, work).await
    }

    /// Touches a session, unless touches are paused. If one of this session is under way, waits for that, and for nothing more
    /// if its end tells as much.
    pub(super) async fn touch(&self, id: SessionId, extension: Extension, work: Work) -> Ended {
        let mut work = Some(work);
        loop {
            let UnderWay {
                extension: theirs,
                mut ended,
            } = self.begin(id, extension, &mut work)?;
            // Its task tells in time. If it tells nothing, it has panicked.
            let ended = ended.wait_for(Option::is_some).await;
            let ended = ended.ok().and_then(|ended| *ended);
            let touched = ended.unwrap_or(Err(TouchFailed))?;
            if work.is_none() {
                return Ok(touched);
            }
            // Somebody else was faster: so late does the session end now.
            let ends_at_least = match touched {
                Touched::Done => theirs.expiry,
                Touched::NotDue => theirs.at_least(),
                // He may have seen the session before it was shortened, and this request after.
                Touched::Shortened => continue,
                Touched::Gone | Touched::Busy => return Ok(touched),
            };
            if ends_at_least >= extension.at_least() {
                return Ok(Touched::NotDue);
            }
        }
    }

    /// The touch that is under way. If none is, begins the one that is wanted, and takes the work.
    fn begin(
        &self,
        id: SessionId,
        extension: Extension,
        work: &mut Option<Work>,
    ) -> Result<UnderWay, TouchFailed> {
        let mut state = self.shared.state();
        if let Some(session) = state.sessions.get(&id) {
            if let Some(under_way) = &session.under_way {
                return Ok(under_way.clone());
            }
            if session.backoff.is_pausing() {
                return Err(TouchFailed);
            }
        }
        let of_all = state.all.attempt().ok_or(TouchFailed)?;
        let (answer, ended) = watch::channel(None);
        let session = state.sessions.entry(id).or_default();
        let of_session = session.backoff.attempt().ok_or(TouchFailed)?;
        let under_way = UnderWay { extension, ended };
        session.under_way = Some(under_way.clone());
        drop(state);
        let attempt = Attempt { of_all, of_session };
        let work = work.take().ok_or(TouchFailed)?;
        tokio::spawn(self.clone().run(id, work, attempt, answer));
        Ok(under_way)
    }

    /// Runs the touch to its end, and tells as soon as it is known what became of it.
    async fn run(
        self,
        id: SessionId,
        mut work: Work,
        attempt: Attempt,
        answer: watch::Sender<Option<Ended>>,
    ) {
        let over = Over(&self.shared, id);
        let deadline = after(self.limit);
        let permits = &self.shared.permits;
        let permit = before(deadline, pin!(permits.acquire())).await;
        let Ok(Ok(_permit)) = permit else {
            // Others hold all of them, and their failures count.
            drop(over);
            answer.send_replace(Some(Err(TouchFailed)));
            return;
        };
        let touching = Touching::start();
        let (reason, is_late) = match before(deadline, work.as_mut()).await {
            Ok(Ok(touched)) => {
                touching.end(touched.as_str());
                self.shared.state().succeeded(id);
                drop(over); // Before anybody knows, and may ask for the next.
                answer.send_replace(Some(Ok(touched)));
                return;
            }
            Ok(Err(error)) => (SessionError::of(id.0, error), false),
            Err(_) => (SessionError::of(id.0, no_answer(self.limit)), true),
        };
        touching.end("failed");
        let failures = self.shared.failures.fetch_add(1, Ordering::Relaxed) + 1;
        let pause = self.shared.state().failed(id, attempt);
        events::touch_failed(reason, failures);
        if let Some(pause) = pause {
            events::touches_paused(pause);
        }
        if is_late {
            answer.send_replace(Some(Err(TouchFailed)));
            let dropped_after = self.limit.saturating_mul(DROPPED_AFTER);
            let _nobody_waits = timeout_at(after(dropped_after), work).await;
        } else {
            drop(over);
            answer.send_replace(Some(Err(TouchFailed)));
        }
    }

    /// All failures so far.
    pub(crate) fn failures(&self) -> u64 {
        self.shared.failures.load(Ordering::Relaxed)
    }
}

/// Waits for a store no longer than that; `Err` is what to report.
pub(super) async fn within<F: Future>(limit: Duration, work: F) -> Result<F::Output, String> {
    let done = before(after(limit), pin!(work)).await;
    done.map_err(|_| no_answer(limit))
}

fn no_answer(limit: Duration) -> String {
    format!("no answer within {}", humantime::format_duration(limit))
}

/// Then, or in thirty years: a limit may be a `Duration::MAX`, which no clock reaches.
fn after(limit: Duration) -> Instant {
    const FAR: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);
    Instant::now() + limit.min(FAR)
}

/// Waits until then at the latest.
async fn before<F: Future + ?Sized>(
    deadline: Instant,
    mut work: Pin<&mut F>,
) -> Result<F::Output, Elapsed> {
    // What is ready at once needs no timer.
    let at_once = poll_fn(|cx| Poll::Ready(work.as_mut().poll(cx))).await;
    match at_once {
        Poll::Ready(answer) => Ok(answer),
        Poll::Pending => timeout_at(deadline, work).await,
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A touch's task is over, whatever has become of it.
struct Over<'a>(&'a Shared, SessionId);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        let Self(shared, id) = self;
        shared.state().over(*id);
    }
}

impl State {
    fn succeeded(&mut self, id: SessionId) {
        self.all.succeeded();
        self.failing.clear();
        if let Some(session) = self.sessions.get_mut(&id) {
            session.backoff.succeeded();
        }
    }

    /// Answers how long touches of all sessions are paused, if a pause begins.
    fn failed(&mut self, id: SessionId, attempt: Attempt) -> Option<Duration> {
        if let Some(session) = self.sessions.get_mut(&id) {
            session.backoff.failed(attempt.of_session);
        }
        // The same session again says nothing of others, but for whether a pause has helped.
        let is_news = self.all.is_paused() || self.failing.insert(id);
        is_news.then(|| self.all.failed(attempt.of_all)).flatten()
    }

    fn over(&mut self, id: SessionId) {
        if let Some(session) = self.sessions.get_mut(&id) {
            session.under_way = None;
            if !session.backoff.has_failed() {
                self.sessions.remove(&id);
            }
        }
        if self.sessions.len() > REMEMBERED {
            // Their touches are tried again: that costs less than to remember more.
            self.sessions
                .retain(|_, session| session.under_way.is_some());
        }
    }
}

/// Pauses after failures in a row.
#[derive(Debug, Default)]
struct Backoff {
    in_a_row: u32,
    /// How many pauses have begun.
    pauses: u32,
    paused_until: Option<Instant>,
}

/// How many pauses had begun when a touch began: of all sessions', and of its own.
#[derive(Clone, Copy, Debug)]
struct Attempt {
    of_all: u32,
    of_session: u32,
}

impl Backoff {
    /// Whether to try. After a pause one request tries for all: the others wait as long again.
    fn attempt(&mut self) -> Option<u32> {
        if self.is_pausing() {
            return None;
        }
        if self.is_paused() {
            self.pause();
        }
        Some(self.pauses)
    }

    /// Whether a pause has begun that nothing has ended yet but time.
    fn is_paused(&self) -> bool {
        self.paused_until.is_some()
    }

    fn is_pausing(&self) -> bool {
        self.paused_until
            .is_some_and(|until| Instant::now() < until)
    }

    fn has_failed(&self) -> bool {
        self.in_a_row > 0
    }

    fn succeeded(&mut self) {
        self.in_a_row = 0;
        self.paused_until = None;
    }

    /// Answers how long the pause is, if one begins. Touches that were under way when the last one began say nothing new.
    fn failed(&mut self, attempt: u32) -> Option<Duration> {
        if attempt != self.pauses {
            return None;
        }
        self.in_a_row = self.in_a_row.saturating_add(1);
        if self.in_a_row < PATIENCE {
            return None;
        }
        self.pauses = self.pauses.wrapping_add(1);
        Some(self.pause())
    }

    fn pause(&mut self) -> Duration {
        let doublings = self.in_a_row.saturating_sub(PATIENCE).min(16);
        let pause = (FIRST_PAUSE * 2_u32.pow(doublings)).min(LONGEST_PAUSE);
        self.paused_until = Some(Instant::now() + pause);
        pause
    }
}

#[cfg(test)]
mod tests {
    use tokio::{sync::oneshot, time::timeout};

    use super::*;
    use crate::schedule::Millis;

    #[tokio::test(start_paused = true)]
    async fn pauses_double_after_three_failures_and_end_with_a_success() {
        let mut backoff = Backoff::default();
        for _ in 1..PATIENCE {
            let attempt = backoff.attempt().unwrap();
            assert_eq!(backoff.failed(attempt), None);
        }
        for seconds in [1, 2, 4, 8, 16, 32, 60, 60] {
            let attempt = backoff.attempt().unwrap();
            assert_eq!(backoff.failed(attempt), Some(Duration::from_secs(seconds)));
            assert!(backoff.attempt().is_none());
            tokio::time::advance(Duration::from_secs(seconds)).await;
        }
        backoff.attempt().unwrap();
        assert!(backoff.attempt().is_none(), "one request tries for all");
        backoff.succeeded();
        assert!(backoff.attempt().is_some() && backoff.attempt().is_some());
        let attempt = backoff.attempt().unwrap();
        assert_eq!(backoff.failed(attempt), None);
    }

    #[tokio::test(start_paused = true)]
    async fn requests_that_fail_together_cause_one_pause() {
        let mut backoff = Backoff::default();
        let attempts: Vec<_> = (0..100).map(|_| backoff.attempt().unwrap()).collect();
        let pauses: Vec<_> = attempts
            .into_iter()
            .filter_map(|attempt| backoff.failed(attempt))
            .collect();
        assert_eq!(pauses, [FIRST_PAUSE]);
    }

    /// To the time 2 if the session ends by 1.
    const EXTENSION: Extension = Extension {
        expiry: Millis::clamp(2),
        due_before: Millis::clamp(1),
    };

    fn fails() -> Work {
        Box::pin(async { Err("it fails".into()) })
    }

    fn succeeds() -> Work {
        Box::pin(async { Ok(Touched::Done) })
    }

    /// Never ends before it is told to.
    fn hangs() -> (oneshot::Sender<()>, Work) {
        let (end, ended) = oneshot::channel();
        let work = Box::pin(async move {
            let _told = ended.await;
            Ok(Touched::Done)
        });
        (end, work)
    }

    #[tokio::test(start_paused = true)]
    async fn one_sessions_trouble_pauses_nobody_else() {
        let attempts = Attempts::default();
        for _ in 0..20 {
            assert!(
                attempts
                    .touch(SessionId(1), EXTENSION, fails())
                    .await
                    .is_err()
            );
            tokio::time::advance(LONGEST_PAUSE).await;
            assert!(
                attempts
                    .touch(SessionId(1), EXTENSION, fails())
                    .await
                    .is_err()
            );
            assert!(
                attempts
                    .touch(SessionId(2), EXTENSION, succeeds())
                    .await
                    .is_ok()
            );
        }
        // It is paused itself.
        let failures = attempts.failures();
        assert!(
            attempts
                .touch(SessionId(1), EXTENSION, fails())
                .await
                .is_err()
        );
        assert_eq!(attempts.failures(), failures);
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_fails_for_everybody_is_paused_for_everybody() {
        let attempts = Attempts::default();
        for id in 0..3 {
            assert!(
                attempts
                    .touch(SessionId(id), EXTENSION, fails())
                    .await
                    .is_err()
            );
        }
        assert!(
            attempts
                .touch(SessionId(3), EXTENSION, succeeds())
                .await
                .is_err()
        );
        assert_eq!(attempts.failures(), 3);
        tokio::time::advance(FIRST_PAUSE).await;
        assert!(
            attempts
                .touch(SessionId(3), EXTENSION, succeeds())
                .await
                .is_ok()
        );
        assert!(
            attempts
                .touch(SessionId(4), EXTENSION, succeeds())
                .await
                .is_ok()
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_is_touched_once_at_a_time_and_others_get_its_answer() {
        let attempts = Attempts::default();
        let (end, work) = hangs();
        let first = tokio::spawn({
            let attempts = attempts.clone();
            async move { attempts.touch(SessionId(1), EXTENSION, work).await }
        });
        tokio::task::yield_now().await;
        // Were they asked, these would fail.
        let others: Vec<_> = (0..10)
            .map(|_| {
                let attempts = attempts.clone();
                tokio::spawn(async move { attempts.touch(SessionId(1), EXTENSION, fails()).await })
            })
            .collect();
        tokio::task::yield_now().await;
        end.send(()).unwrap();
        assert_eq!(first.await.unwrap().unwrap(), Touched::Done);
        for other in others {
            assert_eq!(other.await.unwrap().unwrap(), Touched::NotDue);
        }
        assert!(
            attempts
                .touch(SessionId(1), EXTENSION, succeeds())
                .await
                .is_ok()
        );
    }

    /// What the other touch has found out is less than what is asked.
    #[tokio::test(start_paused = true)]
    async fn an_answer_that_tells_too_little_is_not_taken_over() {
        for (theirs, extension, expected) in [
            (Touched::Done, EXTENSION, Touched::NotDue),
            (Touched::NotDue, EXTENSION, Touched::NotDue),
            // It may still end before 2.
            (
                Touched::NotDue,
                Extension {
                    due_before: EXTENSION.expiry,
                    ..EXTENSION
                },
                Touched::Done,
            ),
            // It ends at 2.
            (
                Touched::Done,
                Extension {
                    expiry: Millis::clamp(4),
                    due_before: Millis::clamp(3),
                },
                Touched::Done,
            ),
            (
                Touched::Gone,
                Extension {
                    expiry: Millis::clamp(4),
                    due_before: Millis::clamp(3),
                },
                Touched::Gone,
            ),
            // Whoever loads it now may have seen that.
            (Touched::Shortened, EXTENSION, Touched::Done),
        ] {
            let attempts = Attempts::default();
            let work = Box::pin(async move {
                tokio::task::yield_now().await;
                Ok(theirs)
            });
            let first = attempts.touch(SessionId(1), EXTENSION, work);
            let second = attempts.touch(SessionId(1), extension, succeeds());
            let (first, second) = tokio::join!(first, second);
            assert_eq!((first.unwrap(), second.unwrap()), (theirs, expected));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_stalls_is_given_no_more_than_a_few_connections() {
        let attempts = Attempts::default();
        let (mut ends, mut asked) = (Vec::new(), Vec::new());
        for id in 0..20 {
            let (end, work) = hangs();
            ends.push(end);
            let attempts = attempts.clone();
            asked.push(tokio::spawn(async move {
                attempts
                    .touch(SessionId(id), EXTENSION, work)
                    .await
                    .is_err()
            }));
        }
        for asked in asked {
            assert!(asked.await.unwrap());
        }
        assert_eq!(attempts.shared.permits.available_permits(), 0);
        assert_eq!(attempts.failures(), AT_ONCE as u64);
        // They are given back when the queries end, not before.
        ends.into_iter().for_each(drop);
        tokio::time::sleep(DEFAULT_LIMIT * 2).await;
        assert_eq!(attempts.shared.permits.available_permits(), AT_ONCE);
        assert!(
            attempts
                .touch(SessionId(99), EXTENSION, succeeds())
                .await
                .is_ok()
        );
        tokio::task::yield_now().await;
        assert!(
            !attempts
                .shared
                .state()
                .sessions
                .contains_key(&SessionId(99))
        );
    }

    /// A host that has vanished: nobody hears of it, and the queries under way never end.
    #[tokio::test(start_paused = true)]
    async fn touches_that_never_end_do_not_stop_others_for_ever() {
        let attempts = Attempts::default();
        let mut ends = Vec::new();
        for id in 0..4 {
            let (end, work) = hangs();
            ends.push(end);
            let touched = attempts.touch(SessionId(id), EXTENSION, work).await;
            assert!(touched.is_err());
        }
        tokio::time::sleep(DEFAULT_LIMIT * DROPPED_AFTER).await;
        let touched = attempts.touch(SessionId(99), EXTENSION, succeeds()).await;
        assert_eq!(touched.unwrap(), Touched::Done);
    }

    #[tokio::test(start_paused = true)]
    async fn a_limit_may_be_as_long_as_a_duration_can_be() {
        let mut attempts = Attempts::default();
        attempts.set_limit(Duration::MAX);
        let touched = attempts.touch(SessionId(1), EXTENSION, succeeds()).await;
        assert_eq!(touched.unwrap(), Touched::Done);
        assert_eq!(within(Duration::MAX, async { 1 }).await, Ok(1));
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_than_so_many_sessions_are_remembered() {
        let attempts = Attempts::default();
        let mut most = 0;
        for id in 0..i128::try_from(REMEMBERED).unwrap() + 10 {
            assert!(
                attempts
                    .touch(SessionId(id), EXTENSION, fails())
                    .await
                    .is_err()
            );
            // The store is up for others.
            assert!(
                attempts
                    .touch(SessionId(-1), EXTENSION, succeeds())
                    .await
                    .is_ok()
            );
            most = most.max(attempts.shared.state().sessions.len());
        }
        assert!(most <= REMEMBERED, "{most}");
        assert!(attempts.shared.state().sessions.len() < REMEMBERED / 2);
    }

    /// S10: an application's own timeout, shorter than the limit.
    #[tokio::test(start_paused = true)]
    async fn a_touch_that_nobody_waits_for_counts() {
        let attempts = Attempts::default();
        let (_end, work) = hangs();
        let waiting = attempts.touch(SessionId(1), EXTENSION, work);
        assert!(timeout(DEFAULT_LIMIT / 2, waiting).await.is_err());
        tokio::time::sleep(DEFAULT_LIMIT).await;
        assert_eq!(attempts.failures(), 1);
    }
}
