//! The one place that knows tower-sessions' types.

use http::Extensions;
use time::{Duration, OffsetDateTime};
use tower_sessions::Expiry;
pub(crate) use tower_sessions::{
    Session, SessionStore,
    session::{Error as SessionError, Id, Record},
    session_store as store_error,
    session_store::ExpiredDeletion,
};

/// Which release that is, for messages to people.
pub(crate) const RELEASE: &str = "tower-sessions 0.14";

/// How long tower-sessions keeps a session on the server that has no end of its own (core's `DEFAULT_DURATION`).
const DEFAULT_LIFETIME: Duration = Duration::weeks(2);

/// The session that `SessionManagerLayer` put into the request.
pub(crate) fn find(extensions: &Extensions) -> Option<&Session> {
    extensions.get()
}

/// When a session ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lifetime {
    /// This long after its last write.
    Rolling(Duration),
    /// At this time, whatever is written.
    Fixed(OffsetDateTime),
}

pub(crate) fn lifetime(session: &Session) -> Lifetime {
    match session.expiry() {
        Some(Expiry::OnInactivity(lifetime)) => Lifetime::Rolling(lifetime),
        Some(Expiry::AtDateTime(end)) => Lifetime::Fixed(end),
        Some(Expiry::OnSessionEnd) | None => Lifetime::Rolling(DEFAULT_LIFETIME),
    }
}
