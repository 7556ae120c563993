//! What became of a session on a request: for the handler, and for whoever sees the response.

use std::fmt;

use time::OffsetDateTime;

/// What became of the session on this request.
///
/// Under a [`LifetimeLayer`](crate::LifetimeLayer) it is a fact when the handler reads it: the session has been extended,
/// or it has not, and what the handler answers changes nothing about that. With tower-sessions' layer alone it is
/// provisional: the time of the refresh is saved after the handler, unless it answers with a 5xx or the session vanishes
/// meanwhile; [`RefreshLayer::info_in_response`](crate::RefreshLayer::info_in_response) tells the final one.
///
/// ```
/// use session_refresh::{RefreshInfo, session_refresh};
///
/// #[session_refresh(interval = "1h")]
/// async fn handler(refresh: RefreshInfo) -> String {
///     match refresh.expires_at {
///         Some(end) => format!("your session ends at {end} or later"),
///         None => String::from("you have no session"),
///     }
/// }
/// # let _: axum::Router = axum::Router::new().route("/", axum::routing::get(handler));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RefreshInfo {
    /// Whether this request extends the session: short for `outcome == Outcome::Refreshed`.
    pub refreshed: bool,
    /// The last extension as far as it is known, this request's included: that is when the request arrived.
    ///
    /// `None` where there is no session, where its record was not read (a skipped path, say), or where none was ever
    /// recorded.
    pub refreshed_at: Option<OffsetDateTime>,
    /// The session ends no earlier than this.
    ///
    /// tower-sessions' layer alone can't tell when a record expires: then this is the last recorded refresh plus the
    /// lifetime in the session's `Expiry`. `None` where that can't be known.
    pub expires_at: Option<OffsetDateTime>,
    /// The session ends at this time, however active its user is: a fixed end, or its absolute limit. `None` if there is no
    /// such time, or none that is known.
    pub ends_at: Option<OffsetDateTime>,
    /// Why.
    pub outcome: Outcome,
}

/// Why a session is refreshed, or is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Outcome {
    /// The session is extended.
    Refreshed,
    /// It was extended less than an interval ago, or another request is writing it just now, or has just given it another
    /// lifetime.
    NotDue,
    /// The policy says no; with tower-sessions' layer alone, the response may, too.
    Skipped(SkipReason),
    /// The session was there when the request came and is not any more: another request has logged it out. With
    /// tower-sessions' layer alone, this handler may have, too.
    Gone,
    /// The session's store or the user look-up failed; the event says how. The page is served.
    Unavailable,
}

/// Why a refresh was not even tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SkipReason {
    /// The client sent no session cookie, or one that no live session belongs to.
    NoSession,
    /// Nobody is logged in.
    Unauthenticated,
    /// The user is staff and the policy skips staff.
    Staff,
    /// The user is a superuser and the policy skips superusers.
    Superuser,
    /// The path has one of the policy's prefixes.
    Path,
    /// The policy's predicate said so.
    Predicate,
    /// The route is passive: it reads and writes, and extends nothing.
    Passive,
    /// The browser asked in advance (`Sec-Purpose: prefetch`): nobody has seen the page yet.
    Prefetch,
    /// The session ends at a fixed time (`Expiry::AtDateTime`).
    FixedExpiry,
    /// tower-sessions' layer stands alone and the response is a server error: it saves nothing on these.
    ServerError,
    /// tower-sessions' layer stands alone and the response's headers let a shared cache store it, cookie included (RFC
    /// 9111 §3).
    SharedCache,
}

impl SkipReason {
    /// A stable name for logs and metrics, such as `no_session`.
    ///
    /// ```
    /// assert_eq!(session_refresh::SkipReason::FixedExpiry.as_str(), "fixed_expiry");
    /// ```
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoSession => "no_session",
            Self::Unauthenticated => "unauthenticated",
            Self::Staff => "staff",
            Self::Superuser => "superuser",
            Self::Path => "path",
            Self::Predicate => "predicate",
            Self::Passive => "passive",
            Self::Prefetch => "prefetch",
            Self::FixedExpiry => "fixed_expiry",
            Self::ServerError => "server_error",
            Self::SharedCache => "shared_cache",
        }
    }
}

impl Outcome {
    /// A stable name for logs and metrics, such as `not_due`; a skip has its reason's name.
    ///
    /// ```
    /// use session_refresh::{Outcome, SkipReason};
    ///
    /// assert_eq!(Outcome::NotDue.as_str(), "not_due");
    /// assert_eq!(Outcome::Skipped(SkipReason::Staff).as_str(), "staff");
    /// ```
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Refreshed => "refreshed",
            Self::NotDue => "not_due",
            Self::Skipped(reason) => reason.as_str(),
            Self::Gone => "gone",
            Self::Unavailable => "unavailable",
        }
    }
}

impl fmt::Display for SkipReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl RefreshInfo {
    /// No extension: `outcome` says why, and nothing is known of the session.
    pub(crate) const fn without_session(outcome: Outcome) -> Self {
        Self {
            refreshed: false,
            refreshed_at: None,
            expires_at: None,
            ends_at: None,
            outcome,
        }
    }

    /// The same knowledge of the session under another outcome that extends nothing.
    pub(crate) fn with(&self, outcome: Outcome) -> Self {
        Self {
            refreshed: false,
            outcome,
            ..self.clone()
        }
    }
}

/// Why a request is no activity of its user, so that nothing of it extends the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Inactivity {
    Passive,
    Prefetch,
}

impl From<Inactivity> for SkipReason {
    fn from(inactivity: Inactivity) -> Self {
        match inactivity {
            Inactivity::Passive => Self::Passive,
            Inactivity::Prefetch => Self::Prefetch,
        }
    }
}

/// What is known of a session's refresh before the user is.
pub(crate) enum Finding<T> {
    /// Nothing is to be done.
    Settled(RefreshInfo),
    /// A refresh is due.
    Due(T),
}

impl<T> Finding<T> {
    pub(crate) fn map<U>(self, due: impl FnOnce(T) -> U) -> Finding<U> {
        match self {
            Self::Settled(info) => Finding::Settled(info),
            Self::Due(refresh) => Finding::Due(due(refresh)),
        }
    }
}
