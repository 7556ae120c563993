//! Numbers through the `metrics` facade; without the feature of that name, nothing.

#[cfg(not(feature = "metrics"))]
pub(crate) use disabled::{Route, Touching};
#[cfg(feature = "metrics")]
pub(crate) use enabled::{Route, Touching};

#[cfg(feature = "metrics")]
mod enabled {
    use std::{sync::Once, time::Instant};

    use axum::extract::MatchedPath;
    use http::Extensions;
    use metrics::{Unit, counter, describe_counter, describe_histogram, histogram};

    use crate::outcome::Outcome;

    const REQUESTS: &str = "session_refresh_requests_total";
    const TOUCHES: &str = "session_refresh_touch_duration_seconds";

    /// Registers the metrics' descriptions on first use, because the recorder may be installed after start-up.
    fn describe() {
        static DESCRIBED: Once = Once::new();
        DESCRIBED.call_once(|| {
            describe_counter!(
                REQUESTS,
                Unit::Count,
                "Answered requests, by route pattern and what became of the session"
            );
            describe_histogram!(
                TOUCHES,
                Unit::Seconds,
                "How long the store took to move a session's expiry, by result"
            );
        });
    }

    /// The pattern of the route that a request matched, never its path: a client could make up as many of those as it
    /// likes.
    #[derive(Clone, Debug, Default)]
    pub(crate) struct Route(Option<MatchedPath>);

    impl Route {
        pub(crate) fn of(extensions: &Extensions) -> Self {
            Self(extensions.get().cloned())
        }

        /// One more answered request.
        pub(crate) fn count(&self, outcome: Outcome) {
            describe();
            let route = self.0.as_ref().map_or("", MatchedPath::as_str).to_owned();
            counter!(REQUESTS, "route" => route, "outcome" => outcome.as_str()).increment(1);
        }
    }

    /// A touch that is under way.
    pub(crate) struct Touching(Instant);

    impl Touching {
        pub(crate) fn start() -> Self {
            Self(Instant::now())
        }

        pub(crate) fn end(self, result: &'static str) {
            describe();
            histogram!(TOUCHES, "result" => result).record(self.0.elapsed());
        }
    }
}

#[cfg(not(feature = "metrics"))]
mod disabled {
    use http::Extensions;

    use crate::outcome::Outcome;

    #[derive(Clone, Debug, Default)]
    pub(crate) struct Route(());

    impl Route {
        #[inline]
        pub(crate) fn of(_: &Extensions) -> Self {
            Self(())
        }

        #[inline]
        #[allow(clippy::unused_self)]
        pub(crate) fn count(&self, _: Outcome) {}
    }

    pub(crate) struct Touching;

    impl Touching {
        #[inline]
        pub(crate) fn start() -> Self {
            Self
        }

        #[inline]
        #[allow(clippy::unused_self)]
        pub(crate) fn end(self, _: &'static str) {}
    }
}
