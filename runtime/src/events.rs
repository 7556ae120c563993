//! Every text that an operator or a developer reads: events, and answers to mistakes in how an application is put together.

use std::{fmt, time::Duration};

use http::{HeaderValue, StatusCode, header};
use time::OffsetDateTime;
use tracing::{debug, error, info, trace, warn};

/// Every event of this crate has this target.
const TARGET: &str = "session_refresh";

/// Declares the events' texts, and a list of them for the test of the guide's table.
macro_rules! texts {
    ($($(#[$attribute:meta])* $name:ident = $text:expr;)*) => {
        $($(#[$attribute])* const $name: &str = $text;)*

        /// Every event's text.
        #[cfg(test)]
        pub(crate) const ALL: &[&str] = &[$($name),*];
    };
}

texts! {
    REFRESHED = "session refreshed";
    SKIPPED = "session refresh skipped";
    LOAD_FAILED = "could not load the session";
    STAMP_FAILED = "could not refresh the session";
    LOOK_UP_FAILED = "could not look the user up: the extractor rejected the request";
    TOUCH_FAILED = "could not touch the session";
    TOUCHES_PAUSED = "touches keep failing: pausing";
    BAD_STAMP = "the recorded time of the last refresh is not valid: counts as never refreshed";
    BAD_LIFETIME = "a session's own lifetime in its record is not valid: the layer's counts";
    PLAIN_LAYER = "this session layer saves whole records: a refresh that races a write may overwrite it, and one that \
        races a logout may undo it; `session_refresh::LifetimeLayer` around a store that can touch does neither";
    #[cfg_attr(not(feature = "_stores"), allow(dead_code))]
    STORE_WITHOUT_LAYER = "this store can touch, but no `session_refresh::LifetimeLayer` uses it: refreshes save whole records";
    #[cfg_attr(not(feature = "_sql"), allow(dead_code))]
    SWEEP_FAILED = "could not delete the sessions that have ended: tried again after the next period";
    INTERVAL_TOO_LONG = "the refresh interval is not shorter than the session's inactivity expiry: sessions end before they \
        are refreshed";
    NO_SESSION = if cfg!(all(feature = "tower-sessions-0_14", feature = "tower-sessions-0_15")) {
        "Can't find a session. Is `LifetimeLayer` or `SessionManagerLayer` of tower-sessions 0.14 or 0.15 enabled, and \
         outside of this route?"
    } else if cfg!(feature = "tower-sessions-0_14") {
        "Can't find a session. Is `LifetimeLayer` or `SessionManagerLayer` of tower-sessions 0.14 enabled, and outside of \
         this route? For tower-sessions 0.15, enable the feature `tower-sessions-0_15` of session-refresh."
    } else {
        "Can't find a session. Is `LifetimeLayer` or `SessionManagerLayer` of tower-sessions 0.15 enabled, and outside of \
         this route? For tower-sessions 0.14, enable the feature `tower-sessions-0_14` of session-refresh."
    };
    NO_USER_SOURCE = "Can't tell staff or superusers: nobody says who the user is. Is there a `RefreshLayer` with \
        `.user::<T>()` outside of this route, or `user = Type` in its attribute?";
    NO_LIFETIME_LAYER = "Can't tell how long the session lives. Is there a `LifetimeLayer` outside of this route?";
    NOT_ANNOTATED = "Can't extract `RefreshInfo`. Is the handler annotated with `#[session_refresh]`?";
}

pub(crate) fn refreshed(expires_at: Option<OffsetDateTime>) {
    debug!(target: TARGET, ?expires_at, "{REFRESHED}");
}

pub(crate) fn skipped(reason: impl fmt::Display) {
    trace!(target: TARGET, %reason, "{SKIPPED}");
}

pub(crate) fn load_failed(error: impl fmt::Display) {
    error!(target: TARGET, %error, "{LOAD_FAILED}");
}

pub(crate) fn stamp_failed(error: impl fmt::Display) {
    error!(target: TARGET, %error, "{STAMP_FAILED}");
}

pub(crate) fn look_up_failed(status: StatusCode) {
    error!(target: TARGET, %status, "{LOOK_UP_FAILED}");
}

pub(crate) fn touch_failed(error: impl fmt::Display, failed_touches: u64) {
    error!(target: TARGET, %error, failed_touches, "{TOUCH_FAILED}");
}

pub(crate) fn touches_paused(pause: Duration) {
    let pause = humantime::format_duration(pause).to_string();
    warn!(target: TARGET, pause, "{TOUCHES_PAUSED}");
}

pub(crate) fn bad_stamp(mistake: impl fmt::Display) {
    debug!(target: TARGET, %mistake, "{BAD_STAMP}");
}

pub(crate) fn bad_lifetime() {
    debug!(target: TARGET, "{BAD_LIFETIME}");
}

#[cfg(feature = "_stores")]
pub(crate) fn store_without_layer(store: &str) {
    warn!(target: TARGET, store, "{STORE_WITHOUT_LAYER}");
}

#[cfg(feature = "_sql")]
pub(crate) fn sweep_failed(error: impl fmt::Display) {
    error!(target: TARGET, %error, "{SWEEP_FAILED}");
}

pub(crate) fn plain_layer() {
    info!(target: TARGET, "{PLAIN_LAYER}");
}

/// Such as `1day 2h`.
pub(crate) fn in_words(duration: time::Duration) -> impl fmt::Display {
    let duration = Duration::try_from(duration).unwrap_or_default();
    humantime::format_duration(duration)
}

pub(crate) fn interval_too_long(
    route: &str,
    interval: time::Duration,
    inactivity_expiry: time::Duration,
) {
    let (interval, inactivity_expiry) = (
        in_words(interval).to_string(),
        in_words(inactivity_expiry).to_string(),
    );
    warn!(target: TARGET, route, interval, inactivity_expiry, "{INTERVAL_TOO_LONG}");
}

/// A mistake in how the application is put together. The answer is a 500 that says how to mend it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Misuse {
    NoSession,
    NoUserSource,
    NoLifetimeLayer,
    NotAnnotated,
}

impl Misuse {
    /// Reports the mistake to the operator, and answers with the same text.
    #[cold]
    pub(crate) fn into_response<B: From<String>>(self) -> http::Response<B> {
        let text = match self {
            Self::NoSession => NO_SESSION,
            Self::NoUserSource => NO_USER_SOURCE,
            Self::NoLifetimeLayer => NO_LIFETIME_LAYER,
            Self::NotAnnotated => NOT_ANNOTATED,
        };
        error!(target: TARGET, "{text}");
        let mut response = http::Response::new(B::from(text.to_owned()));
        *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        let plain = HeaderValue::from_static("text/plain; charset=utf-8");
        response.headers_mut().insert(header::CONTENT_TYPE, plain);
        response
    }
}
