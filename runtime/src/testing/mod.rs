//! What an application's tests need: a clock to advance, a store that counts, and assertions on a response.
//!
//! Policies are tested through the `Router`, as axum's own documentation advises; no test waits for an interval to pass:
//!
//! ```
//! # #[cfg(all(feature = "tower-sessions-0_14", feature = "memory-store"))]
//! # #[tokio::main(flavor = "current_thread")] async fn main() {
//! use axum::{Router, body::Body, extract::Request, routing::get};
//! use session_refresh::{LifetimeLayer, RefreshLayer, session_refresh, testing::{AssertRefresh as _, TestClock}};
//! use time::ext::NumericalDuration as _;
//! use tower::ServiceExt as _; // for `oneshot`
//! use tower_sessions::{MemoryStore, Session, SessionManagerLayer};
//!
//! #[session_refresh(interval = "24h")]
//! async fn dashboard() {}
//! # async fn log_in(session: Session) { session.insert("user", 7).await.unwrap(); }
//!
//! let clock = TestClock::default();
//! let sessions = LifetimeLayer::new(MemoryStore::default(), |store| SessionManagerLayer::new(store));
//! let app = Router::new()
//!     .route("/", get(dashboard).post(log_in))
//!     .layer(sessions.with_clock(clock.as_fn()))
//!     .layer(RefreshLayer::new().info_in_response()); // what is asserted
//! # let login = app.clone().oneshot(Request::post("/").body(Body::empty()).unwrap()).await.unwrap();
//! # let cookie = login.headers()["set-cookie"].clone();
//! # let request = || Request::get("/").header("cookie", &cookie).body(Body::empty()).unwrap();
//!
//! // With the cookie of somebody who has just logged in:
//! app.clone().oneshot(request()).await.unwrap().assert_not_refreshed();
//! clock.advance(25.hours());
//! app.clone().oneshot(request()).await.unwrap().assert_refreshed();
//! # }
//! # #[cfg(not(all(feature = "tower-sessions-0_14", feature = "memory-store")))] fn main() {}
//! ```
//!
//! With tower-sessions' layer alone, give the clock to the `RefreshLayer` instead: [`RefreshLayer::clock`](crate::RefreshLayer::clock).

mod clock;
mod counting;

pub use clock::TestClock;
pub use counting::{CountingStore, Counts};

use crate::{Outcome, RefreshInfo};

/// Assertions on the response of a `Router`, or of anything else inside the process, under a `RefreshLayer` with
/// [`info_in_response`](crate::RefreshLayer::info_in_response). Extensions do not travel over the network.
pub trait AssertRefresh {
    /// What became of the session; `None` if neither attribute nor policy was at work.
    fn refresh_info(&self) -> Option<&RefreshInfo>;

    /// This response refreshed the session.
    ///
    /// # Panics
    /// If it did not: the message says why.
    #[track_caller]
    fn assert_refreshed(&self) {
        self.assert_outcome(Outcome::Refreshed);
    }

    /// The policy was at work, and this response did not refresh the session, for whatever reason.
    ///
    /// # Panics
    /// If it did, or if no policy was at work.
    #[track_caller]
    fn assert_not_refreshed(&self) {
        let outcome = outcome_of(self);
        assert_ne!(
            outcome,
            Outcome::Refreshed,
            "this response refreshed the session"
        );
    }

    /// This is what became of the session.
    ///
    /// # Panics
    /// If it is not.
    #[track_caller]
    fn assert_outcome(&self, expected: Outcome) {
        let outcome = outcome_of(self);
        assert_eq!(
            outcome, expected,
            "`{outcome}` became of the session, not `{expected}`"
        );
    }
}

#[track_caller]
fn outcome_of(response: &(impl AssertRefresh + ?Sized)) -> Outcome {
    let info = response.refresh_info();
    info.expect(
        "no `RefreshInfo` in the response: is there a `RefreshLayer::new().info_in_response()` around the application, is \
         the route annotated or under a policy, did its request reach the handler, and is this the response itself rather \
         than one that came over the network?",
    )
    .outcome
}

impl<B> AssertRefresh for http::Response<B> {
    fn refresh_info(&self) -> Option<&RefreshInfo> {
        self.extensions().get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(outcome: Outcome) -> http::Response<()> {
        let mut response = http::Response::new(());
        let info = RefreshInfo::without_session(outcome);
        response.extensions_mut().insert(info);
        response
    }

    #[test]
    fn an_outcome_as_expected_is_no_panic() {
        response(Outcome::Refreshed).assert_refreshed();
        response(Outcome::NotDue).assert_not_refreshed();
        response(Outcome::Gone).assert_outcome(Outcome::Gone);
    }

    #[test]
    #[should_panic(expected = "`not_due` became of the session, not `refreshed`")]
    fn an_expected_refresh_says_what_was_instead() {
        response(Outcome::NotDue).assert_refreshed();
    }

    #[test]
    #[should_panic(expected = "refreshed the session")]
    fn an_unexpected_refresh_is_a_panic() {
        response(Outcome::Refreshed).assert_not_refreshed();
    }

    #[test]
    #[should_panic(expected = "is the route annotated")]
    fn a_response_that_no_policy_saw_does_not_count_as_unrefreshed() {
        http::Response::new(()).assert_not_refreshed();
    }
}
