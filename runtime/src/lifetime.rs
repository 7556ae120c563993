//! When a session ends: arithmetic on values.

use time::{Duration, OffsetDateTime};

use crate::schedule::Millis;

/// How long tower-sessions keeps a session on the server whose cookie ends with the browser (core's `DEFAULT_DURATION`).
pub(crate) const BROWSER_SESSION: Duration = Duration::weeks(2);

/// What a session's `Expiry` means in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lifetime {
    /// It ends this long after its last write.
    Rolling(Duration),
    /// It ends at this time, whatever is written.
    Fixed(OffsetDateTime),
}

impl Lifetime {
    /// The end of a session that is written at `now`.
    pub(crate) fn end(self, now: Millis) -> Millis {
        match self {
            Self::Rolling(idle) => now.saturating_add(idle),
            Self::Fixed(end) => end.into(),
        }
    }
}
