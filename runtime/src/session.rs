//! The session of a request, whatever release of tower-sessions it belongs to.
//!
//! This and `store::release` are the places that know tower-sessions' types.

use std::fmt;

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use http::Extensions;
use serde_json::Value;

use crate::lifetime::Expiry;

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

/// Stands for tower-sessions 0.14.
#[derive(Clone, Copy, Debug)]
pub enum V0_14 {}

/// Stands for tower-sessions 0.15.
#[derive(Clone, Copy, Debug)]
pub enum V0_15 {}

/// A release of tower-sessions that this build knows: [`V0_14`] or [`V0_15`].
pub trait Release: sealed::Release {}

impl<R: sealed::Release> Release for R {}

pub(crate) mod sealed {
    pub trait Release: Clone + Send + Sync + 'static {
        /// The session of this release that is in a request.
        fn session(extensions: &http::Extensions) -> Option<super::Session>;

        /// The number of an id that nobody can guess.
        fn random_id() -> i128;
    }
}

/// The store or its data failed. Says why, in words that may be logged.
#[derive(Debug)]
pub(crate) struct SessionError(String);

impl SessionError {
    /// In a store's own words. They may name the session, whose id is a secret.
    pub(crate) fn of(id: i128, error: impl fmt::Display) -> Self {
        Self(without_id(id, error.to_string()))
    }
}

/// A text in which a session's id, as clients have it or as a number, is only spoken of.
pub(crate) fn without_id(id: i128, text: String) -> String {
    let encoded = BASE64_URL_SAFE_NO_PAD.encode(id.to_le_bytes());
    [encoded, id.to_string()]
        .iter()
        .fold(text, |text, id| text.replace(id, "(the session's id)"))
}

/// What a decoder says, up to where it quotes what it has read.
pub(crate) fn unquoted(mut text: String) -> String {
    if let Some(quote) = text.find(['"', '`', '\'']) {
        text.truncate(quote);
        text.push('…');
    }
    text
}

impl fmt::Display for SessionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A session of any enabled release. Clones are the same session.
#[derive(Clone)]
#[allow(missing_debug_implementations, reason = "its id is a secret")]
pub enum Session {
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

macro_rules! release {
    ($release:ident, $tower_sessions:ident) => {
        impl sealed::Release for $release {
            fn session(extensions: &Extensions) -> Option<Session> {
                extensions
                    .get::<$tower_sessions::Session>()
                    .map(|session| Session::$release(session.clone()))
            }

            fn random_id() -> i128 {
                $tower_sessions::session::Id::default().0
            }
        }

        impl From<(Option<i128>, $tower_sessions::session::Error)> for SessionError {
            fn from((id, error): (Option<i128>, $tower_sessions::session::Error)) -> Self {
                use $tower_sessions::{session::Error, session_store};

                match (error, id) {
                    (error @ Error::Store(session_store::Error::Decode(_)), _) => {
                        Self(unquoted(error.to_string()))
                    }
                    (error, Some(id)) => Self::of(id, error),
                    (error, None) => Self(error.to_string()),
                }
            }
        }

        impl From<$tower_sessions::Expiry> for Expiry {
            fn from(expiry: $tower_sessions::Expiry) -> Self {
                match expiry {
                    $tower_sessions::Expiry::OnInactivity(idle) => Self::on_inactivity(idle),
                    $tower_sessions::Expiry::AtDateTime(end) => Self::AtDateTime(end.into()),
                    $tower_sessions::Expiry::OnSessionEnd => Self::OnSessionEnd,
                }
            }
        }

        impl From<Expiry> for $tower_sessions::Expiry {
            fn from(expiry: Expiry) -> Self {
                match expiry {
                    Expiry::OnInactivity(idle) => Self::OnInactivity(idle),
                    Expiry::AtDateTime(end) => Self::AtDateTime(end.into()),
                    Expiry::OnSessionEnd => Self::OnSessionEnd,
                }
            }
        }
    };
}

for_each_release!(release);

impl Session {
    /// The innermost session that is in the request. Of two releases' sessions, the older's.
    pub(crate) fn find(extensions: &Extensions) -> Option<Self> {
        macro_rules! find {
            ($release:ident, $tower_sessions:ident) => {
                if let Some(session) = <$release as sealed::Release>::session(extensions) {
                    return Some(session);
                }
            };
        }
        for_each_release!(find);
        None
    }

    /// The number of its id: of the one that the client sent, or that the store gave it.
    pub(crate) fn id(&self) -> Option<i128> {
        of_either!(self, session => session.id().map(|id| id.0))
    }

    /// Whether both are of one release and have the same id, as clones of one session do.
    pub(crate) fn is(&self, other: &Self) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other) && self.id() == other.id()
    }

    pub(crate) fn is_modified(&self) -> bool {
        of_either!(self, session => session.is_modified())
    }

    /// The layer's, unless another was set on this request.
    pub(crate) fn expiry(&self) -> Option<Expiry> {
        of_either!(self, session => session.expiry().map(Expiry::from))
    }

    pub(crate) fn set_expiry(&self, expiry: Expiry) {
        of_either!(self, session => session.set_expiry(Some(expiry.into())));
    }

    /// Has tower-sessions' layer save the session, and so send its cookie, though nothing in it changes.
    pub(crate) fn mark_modified(&self) {
        of_either!(self, session => session.set_expiry(session.expiry()));
    }

    /// A value of the record, which is loaded if nobody has yet.
    pub(crate) async fn get_value(&self, key: &str) -> Result<Option<Value>, SessionError> {
        of_either!(self, session => session.get_value(key).await.map_err(|error| (self.id(), error).into()))
    }

    pub(crate) async fn insert_value(&self, key: &str, value: Value) -> Result<(), SessionError> {
        of_either!(self, session => {
            let inserted = session.insert_value(key, value).await;
            inserted.map(drop).map_err(|error| (self.id(), error).into())
        })
    }

    pub(crate) async fn load(&self) -> Result<(), SessionError> {
        of_either!(self, session => session.load().await.map_err(|error| (self.id(), error).into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_decoder_quotes_is_not_said() {
        for (said, left) in [
            (
                "invalid type: string \"secret\", expected a map",
                "invalid type: string …",
            ),
            ("unknown field `secret`", "unknown field …"),
            ("'secret'", "…"),
            ("no more bytes", "no more bytes"),
        ] {
            assert_eq!(unquoted(said.to_owned()), left);
        }
    }
}
