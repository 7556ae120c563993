//! When touches keep failing: not every request has to find out again.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

/// So many failures in a row are borne before the first pause.
const PATIENCE: u32 = 3;
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
pub(super) struct Backoff {
    state: Mutex<State>,
    failures: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    in_a_row: u32,
    paused_until: Option<Instant>,
}

impl Backoff {
    /// Whether to try. After a pause one request tries for all: the next pause begins with it.
    pub(super) fn may_try(&self) -> bool {
        let mut state = self.state();
        match state.paused_until {
            Some(until) if Instant::now() < until => false,
            Some(_) => {
                state.pause();
                true
            }
            None => true,
        }
    }

    pub(super) fn succeeded(&self) {
        let mut state = self.state();
        if state.in_a_row != 0 {
            *state = State::default();
        }
    }

    /// Answers how long the pause is, if one begins.
    pub(super) fn failed(&self) -> Option<Duration> {
        self.failures.fetch_add(1, Ordering::Relaxed);
        let mut state = self.state();
        state.in_a_row = state.in_a_row.saturating_add(1);
        (state.in_a_row >= PATIENCE).then(|| state.pause())
    }

    /// All failures so far.
    pub(super) fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
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
        assert_eq!((backoff.failed(), backoff.failed()), (None, None));
        assert!(backoff.may_try());
        for seconds in [1, 2, 4, 8, 16, 32, 60, 60] {
            let pause = Duration::from_secs(seconds);
            assert_eq!(backoff.failed(), Some(pause));
            assert!(!backoff.may_try());
            tokio::time::advance(pause).await;
            assert!(backoff.may_try());
            assert!(!backoff.may_try(), "one request tries for all");
        }
        backoff.succeeded();
        assert!(backoff.may_try() && backoff.may_try());
        assert_eq!(backoff.failed(), None);
        assert_eq!(backoff.failures(), 11);
    }
}
