//! The session of a request, whatever release of tower-sessions it belongs to.
//!
//! This and `store::release` are the places that know tower-sessions' types.

use std::fmt;

use http::Extensions;
use serde_json::Value;
use time::{Duration, OffsetDateTime};

/// Names a macro once for each enabled release: with its marker, and with its crate.
macro_rules! for_each_release {
    ($name:ident) => {
        #[cfg(feature = "tower-sessions-0_14")]
        $name!(V0_14, tower_sessions);
        #[cfg(feature = "tower-sessions-0_15")]
        $name!(V0_15, tower_sessions_0_15);
    };
}
pub(crate) use for_each_release;

/// What to do if no session is found: for people.
pub(crate) const NO_SESSION: &str = if cfg!(all(
    feature = "tower-sessions-0_14",
    feature = "tower-sessions-0_15"
)) {
    "Can't find a session. Is `SessionManagerLayer` of tower-sessions 0.14 or 0.15 enabled, and outside of this route?"
} else if cfg!(feature = "tower-sessions-0_14") {
    "Can't find a session. Is `SessionManagerLayer` of tower-sessions 0.14 enabled, and outside of this route? For \
     tower-sessions 0.15, enable the feature `tower-sessions-0_15` of session-refresh."
} else if cfg!(feature = "tower-sessions-0_15") {
    "Can't find a session. Is `SessionManagerLayer` of tower-sessions 0.15 enabled, and outside of this route? For \
     tower-sessions 0.14, enable the feature `tower-sessions-0_14` of session-refresh."
} else {
    "Can't find a session: session-refresh is built for no release of tower-sessions. Enable its feature \
     `tower-sessions-0_14` or `tower-sessions-0_15`."
};

/// How long tower-sessions keeps a session on the server that has no end of its own (core's `DEFAULT_DURATION`).
const DEFAULT_LIFETIME: Duration = Duration::weeks(2);

/// When a session ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lifetime {
    /// This long after its last write.
    Rolling(Duration),
    /// At this time, whatever is written.
    Fixed(OffsetDateTime),
}

/// The store or its data failed. Says why, in its words.
#[derive(Debug)]
pub(crate) struct SessionError(String);

impl fmt::Display for SessionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A session of any enabled release.
#[derive(Clone)]
pub(crate) enum Session {
    #[cfg(feature = "tower-sessions-0_14")]
    V0_14(tower_sessions::Session),
    #[cfg(feature = "tower-sessions-0_15")]
    V0_15(tower_sessions_0_15::Session),
}

/// The same expression for the session of each release.
macro_rules! of_either {
    ($this:expr, $session:ident => $expression:expr) => {
        match *$this {
            #[cfg(feature = "tower-sessions-0_14")]
            Session::V0_14(ref $session) => $expression,
            #[cfg(feature = "tower-sessions-0_15")]
            Session::V0_15(ref $session) => $expression,
        }
    };
}

impl Session {
    /// The session that `SessionManagerLayer` put into the request. Of two releases' sessions, the older's.
    pub(crate) fn find(extensions: &Extensions) -> Option<Self> {
        macro_rules! find {
            ($release:ident, $tower_sessions:ident) => {
                if let Some(session) = extensions.get::<$tower_sessions::Session>() {
                    return Some(Self::$release(session.clone()));
                }
            };
        }
        for_each_release!(find);
        None
    }

    /// Whether it has an id: one that the client sent, or one that the store gave it.
    pub(crate) fn has_id(&self) -> bool {
        of_either!(self, session => session.id().is_some())
    }

    pub(crate) fn is_modified(&self) -> bool {
        of_either!(self, session => session.is_modified())
    }

    pub(crate) fn lifetime(&self) -> Lifetime {
        macro_rules! lifetime {
            ($session:ident, $tower_sessions:ident) => {
                match $session.expiry() {
                    Some($tower_sessions::Expiry::OnInactivity(lifetime)) => {
                        Lifetime::Rolling(lifetime)
                    }
                    Some($tower_sessions::Expiry::AtDateTime(end)) => Lifetime::Fixed(end),
                    Some($tower_sessions::Expiry::OnSessionEnd) | None => {
                        Lifetime::Rolling(DEFAULT_LIFETIME)
                    }
                }
            };
        }
        match *self {
            #[cfg(feature = "tower-sessions-0_14")]
            Self::V0_14(ref session) => lifetime!(session, tower_sessions),
            #[cfg(feature = "tower-sessions-0_15")]
            Self::V0_15(ref session) => lifetime!(session, tower_sessions_0_15),
        }
    }

    /// A value of the record, which is loaded if nobody has yet.
    pub(crate) async fn get_value(&self, key: &str) -> Result<Option<Value>, SessionError> {
        of_either!(self, session => session.get_value(key).await.map_err(failed))
    }

    pub(crate) async fn insert_value(&self, key: &str, value: Value) -> Result<(), SessionError> {
        of_either!(self, session => session.insert_value(key, value).await.map(drop).map_err(failed))
    }

    pub(crate) async fn load(&self) -> Result<(), SessionError> {
        of_either!(self, session => session.load().await.map_err(failed))
    }

    pub(crate) async fn save(&self) -> Result<(), SessionError> {
        of_either!(self, session => session.save().await.map_err(failed))
    }
}

#[allow(clippy::needless_pass_by_value, reason = "as `map_err` passes it")]
fn failed(error: impl fmt::Display) -> SessionError {
    SessionError(error.to_string())
}
