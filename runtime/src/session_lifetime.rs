//! The lifetime of a request's session, as an argument that an application can keep.

use std::fmt;

use axum::{extract::FromRequestParts, response::Response};
use http::request::Parts;
use time::Duration;

use crate::{
    events::{self, Misuse},
    outcome::{Outcome, RefreshInfo},
    request::{FoundSession, Handle},
    touching,
};

/// The lifetime of the request's session, for what the attribute can't do: long-lived connections, and absolute limits.
///
/// It is a handler's argument under a [`LifetimeLayer`](crate::LifetimeLayer), and can be kept for as long as the
/// application likes. Clones are the same.
///
/// A login begins a session anew, and may give it less than others have:
///
/// ```
/// use session_refresh::SessionLifetime;
/// use time::Duration;
/// use tower_sessions::Session;
/// # struct User { id: i64, is_admin: bool }
///
/// async fn log_in(session: &Session, lifetime: &SessionLifetime, user: &User) -> Result<(), tower_sessions::session::Error> {
///     session.cycle_id().await?;
///     session.insert("user", user.id).await?;
///     lifetime.restart();
///     lifetime.set_max_lifetime(user.is_admin.then_some(Duration::hours(12)));
///     Ok(())
/// }
/// # let _ = log_in;
/// ```
#[derive(Clone)]
pub struct SessionLifetime {
    handle: Handle,
}

impl SessionLifetime {
    /// Has the absolute limit count from now, as after a login or another authentication of the same user.
    ///
    /// The session is saved with the response, unless that is a 5xx, as tower-sessions has it; later, on a connection that
    /// has been upgraded, by `Session::save`. A session that is not there is not created.
    pub fn restart(&self) {
        self.handle.request.restart();
    }

    /// Gives this session an absolute limit of its own, counted as the layer's
    /// ([`with_max_lifetime`](crate::LifetimeLayer::with_max_lifetime)); of both the lower one counts. `None` leaves the
    /// layer's alone.
    ///
    /// It is saved as [`restart`](Self::restart) is.
    ///
    /// # Panics
    /// If it is shorter than a millisecond.
    #[track_caller]
    pub fn set_max_lifetime(&self, max_lifetime: Option<Duration>) {
        assert!(
            max_lifetime.is_none_or(|max| max.whole_milliseconds() > 0),
            "a session's time must be at least a millisecond"
        );
        self.handle.request.set_max_lifetime(max_lifetime);
    }

    /// Keeps the session alive because its user has been active just now: extends it, at most once per `interval`, on
    /// whatever request or connection.
    ///
    /// For a WebSocket, a stream of events or a job that goes on after the response. Call it when something comes from the
    /// user, not by a timer, and as often as you like: as long as a refresh is not due it asks nobody. Then it looks into the
    /// store and touches the session as an annotated handler does, so that a session which has been logged out meanwhile is
    /// [`Gone`](Outcome::Gone).
    ///
    /// No cookie can be sent on such a connection. See the guide
    /// [`lifetimes`](crate::guide::lifetimes#long-lived-connections).
    ///
    /// ```
    /// # struct Socket;
    /// # impl Socket { async fn recv(&mut self) -> Option<()> { None } }
    /// use session_refresh::{Outcome, SessionLifetime};
    /// use time::Duration;
    ///
    /// async fn chat(mut socket: Socket, lifetime: SessionLifetime) {
    ///     while let Some(message) = socket.recv().await {
    ///         if lifetime.touch(Duration::minutes(5)).await.outcome == Outcome::Gone {
    ///             return; // logged out in another tab, or expired
    ///         }
    ///         // ..
    ///     }
    /// }
    /// # let _ = chat;
    /// ```
    ///
    /// # Panics
    /// If the interval is shorter than a millisecond.
    pub async fn touch(&self, interval: Duration) -> RefreshInfo {
        assert!(
            interval.whole_milliseconds() > 0,
            "a refresh interval must be at least a millisecond"
        );
        let touched = touching::touch_again(&self.handle, interval).await;
        touched.unwrap_or_else(|error| {
            events::load_failed(error);
            RefreshInfo::without_session(Outcome::Unavailable)
        })
    }
}

impl<S: Sync> FromRequestParts<S> for SessionLifetime {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Response> {
        match FoundSession::of(&parts.extensions) {
            Some(FoundSession::Owned(handle)) => Ok(Self {
                handle: handle.clone(),
            }),
            Some(FoundSession::Plain(_)) | None => Err(Misuse::NoLifetimeLayer.into_response()),
        }
    }
}

/// Says nothing of the session: its id is a secret.
impl fmt::Debug for SessionLifetime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionLifetime").finish_non_exhaustive()
    }
}
