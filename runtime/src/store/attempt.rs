//! One touch: within a time limit, and paused for a while when touches keep failing.

use std::{
    future::poll_fn,
    pin::pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::Poll,
    time::Duration,
};

use axum::BoxError;
use tokio::time::Instant;

use super::touch::Touched;
use crate::{events, metrics::Touching};

/// How long the store may take if the application does not say.
const DEFAULT_LIMIT: Duration = Duration::from_secs(2);

/// A store's touches: how long one may take, and how they have fared.
#[derive(Clone, Debug)]
pub(crate) struct Attempts {
    limit: Duration,
    backoff: Arc<Backoff>,
}

/// The touch failed, which was reported, or touches are paused since others have.
#[derive(Debug)]
pub(crate) struct TouchFailed;

impl Default for Attempts {
    fn default() -> Self {
        Self {
            limit: DEFAULT_LIMIT,
            backoff: Arc::default(),
        }
    }
}

impl Attempts {
    pub(crate) fn set_limit(&mut self, limit: Duration) {
        self.limit = limit;
    }

    /// Waits for the store no longer than the limit; `Err` is what to report.
    pub(super) async fn in_time<F: Future>(&self, work: F) -> Result<F::Output, String> {
        let mut work = pin!(work);
        // A store that answers at once needs no timer.
        let at_once = poll_fn(|cx| Poll::Ready(work.as_mut().poll(cx))).await;
        if let Poll::Ready(answer) = at_once {
            return Ok(answer);
        }
        let answer = tokio::time::timeout(self.limit, work).await;
        answer.map_err(|_| {
            let limit = humantime::format_duration(self.limit);
            format!("no answer within {limit}")
        })
    }

    /// Touches, unless touches are paused.
    pub(super) async fn touch<F>(&self, touch: F) -> Result<Touched, TouchFailed>
    where
        F: Future<Output = Result<Touched, BoxError>>,
    {
        let attempt = self.backoff.attempt().ok_or(TouchFailed)?;
        let touching = Touching::start();
        let reason = match self.in_time(touch).await {
            Ok(Ok(touched)) => {
                touching.end(touched.as_str());
                self.backoff.succeeded();
                return Ok(touched);
            }
            Ok(Err(error)) => error.to_string(),
            Err(late) => late,
        };
        touching.end("failed");
        let pause = self.backoff.failed(attempt);
        events::touch_failed(&reason, self.failures());
        if let Some(pause) = pause {
            events::touches_paused(pause);
        }
        Err(TouchFailed)
    }

    /// All failures so far.
    pub(crate) fn failures(&self) -> u64 {
        self.backoff.failures.load(Ordering::Relaxed)
    }
}

/// So many failures in a row are borne before the first pause.
const PATIENCE: u32 = 3;
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
struct Backoff {
    state: Mutex<State>,
    failures: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    in_a_row: u32,
    /// How many pauses have begun.
    pauses: u32,
    paused_until: Option<Instant>,
}

/// A touch that is under way, and how many pauses had begun when it began.
#[derive(Debug)]
struct Attempt(u32);

impl Backoff {
    /// Whether to try. After a pause one request tries for all: the others wait as long again.
    fn attempt(&self) -> Option<Attempt> {
        let mut state = self.state();
        match state.paused_until {
            Some(until) if Instant::now() < until => return None,
            Some(_) => {
                state.pause();
            }
            None => {}
        }
        Some(Attempt(state.pauses))
    }

    fn succeeded(&self) {
        let mut state = self.state();
        state.in_a_row = 0;
        state.paused_until = None;
    }

    /// Answers how long the pause is, if one begins. Attempts that were under way when the last one began say nothing
    /// new.
    #[allow(clippy::needless_pass_by_value)] // An attempt fails once.
    fn failed(&self, attempt: Attempt) -> Option<Duration> {
        self.failures.fetch_add(1, Ordering::Relaxed);
        let mut state = self.state();
        if attempt.0 != state.pauses {
            return None;
        }
        state.in_a_row = state.in_a_row.saturating_add(1);
        if state.in_a_row < PATIENCE {
            return None;
        }
        state.pauses = state.pauses.wrapping_add(1);
        Some(state.pause())
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn pause(&mut self) -> Duration {
        let doublings = self.in_a_row.saturating_sub(PATIENCE).min(16);
        let pause = (FIRST_PAUSE * 2_u32.pow(doublings)).min(LONGEST_PAUSE);
        self.paused_until = Some(Instant::now() + pause);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn pauses_double_after_three_failures_and_end_with_a_success() {
        let backoff = Backoff::default();
        for _ in 1..PATIENCE {
            assert_eq!(backoff.failed(backoff.attempt().unwrap()), None);
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
        assert_eq!(backoff.failed(backoff.attempt().unwrap()), None);
        assert_eq!(backoff.failures.load(Ordering::Relaxed), 11);
    }

    #[tokio::test(start_paused = true)]
    async fn requests_that_fail_together_cause_one_pause() {
        let backoff = Backoff::default();
        let attempts: Vec<_> = (0..100).map(|_| backoff.attempt().unwrap()).collect();
        let pauses: Vec<_> = attempts
            .into_iter()
            .filter_map(|attempt| backoff.failed(attempt))
            .collect();
        assert_eq!(pauses, [FIRST_PAUSE]);
    }
}
