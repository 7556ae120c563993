//! What a route asks for.

use http::{HeaderMap, HeaderName, request::Parts};
use time::Duration;

use crate::{outcome::Inactivity, user::RouteUser};

/// The interval where neither the route nor the layer names one.
pub(crate) const DEFAULT_INTERVAL: Duration = Duration::hours(24);

/// The session key of the stamp where neither the route nor the layer names one.
pub(crate) const DEFAULT_KEY: &str = "session_refresh.refreshed_at";

/// When a route's traffic refreshes a session, as a constant.
///
/// The attribute's options are its methods. A field that is not set is taken from the
/// [`RefreshLayer`](crate::RefreshLayer)'s defaults, then from this crate's.
///
/// ```
/// use session_refresh::{Policy, session_refresh};
/// use time::Duration;
///
/// const SENSITIVE: Policy = Policy::every(Duration::minutes(15)).skip_paths(&["/account/export/"]);
///
/// #[session_refresh(policy = SENSITIVE, interval = "5m")]
/// async fn account() {}
/// # let _: axum::Router = axum::Router::new().route("/", axum::routing::get(account));
/// ```
#[derive(Clone, Copy, Debug, Default)]
#[must_use]
pub struct Policy {
    pub(crate) interval: Option<Duration>,
    pub(crate) passive: Option<bool>,
    pub(crate) skip_staff: Option<bool>,
    pub(crate) skip_superuser: Option<bool>,
    pub(crate) skip_unauthenticated: Option<bool>,
    pub(crate) skip_prefetch: Option<bool>,
    pub(crate) skip_paths: Option<&'static [&'static str]>,
    pub(crate) skip_if: Option<fn(&Parts) -> bool>,
    pub(crate) key: Option<&'static str>,
}

impl Policy {
    /// A policy that sets nothing: the defaults of the layers and then of the attribute's options count.
    pub const fn new() -> Self {
        Self {
            interval: None,
            passive: None,
            skip_staff: None,
            skip_superuser: None,
            skip_unauthenticated: None,
            skip_prefetch: None,
            skip_paths: None,
            skip_if: None,
            key: None,
        }
    }

    /// A policy that refreshes a session at most once per `interval`.
    ///
    /// # Panics
    /// If the interval is shorter than a millisecond; in a constant this is a compile error.
    pub const fn every(interval: time::Duration) -> Self {
        Self::new().interval(interval)
    }

    /// Refreshes a session at most once per `interval`. Default: 24 hours.
    ///
    /// # Panics
    /// If the interval is shorter than a millisecond; in a constant this is a compile error.
    pub const fn interval(mut self, interval: time::Duration) -> Self {
        // The finest that a stamp, or any store, keeps.
        assert!(
            interval.whole_milliseconds() > 0,
            "a refresh interval must be at least a millisecond"
        );
        self.interval = Some(interval);
        self
    }

    /// Whether requests are no activity: whatever they read and write, the session ends when it would have ended, unless they
    /// set another lifetime (`set_expiry`).
    /// [`RefreshInfo`](crate::RefreshInfo) tells when that is. Default: no.
    ///
    /// With tower-sessions' layer alone a handler that changes the session extends it all the same.
    pub const fn passive(mut self, passive: bool) -> Self {
        self.passive = Some(passive);
        self
    }

    /// Whether sessions of staff are left alone. Default: no.
    pub const fn skip_staff(mut self, skip: bool) -> Self {
        self.skip_staff = Some(skip);
        self
    }

    /// Whether sessions of superusers are left alone. Default: no.
    pub const fn skip_superuser(mut self, skip: bool) -> Self {
        self.skip_superuser = Some(skip);
        self
    }

    /// Whether sessions in which nobody is logged in are left alone. Default: yes. Even without, only a session that
    /// exists is refreshed: none is ever created.
    pub const fn skip_unauthenticated(mut self, skip: bool) -> Self {
        self.skip_unauthenticated = Some(skip);
        self
    }

    /// Whether a request that the browser makes in advance counts as [passive](Self::passive): one with `Sec-Purpose:
    /// prefetch` or `prerender` (Fetch Standard; WICG's Speculation Rules). Default: yes.
    pub const fn skip_prefetch(mut self, skip: bool) -> Self {
        self.skip_prefetch = Some(skip);
        self
    }

    /// Leaves sessions alone on requests whose path begins with one of `prefixes`. The path is the one that the client
    /// asked for, as it was written, also inside a nested router.
    pub const fn skip_paths(mut self, prefixes: &'static [&'static str]) -> Self {
        self.skip_paths = Some(prefixes);
        self
    }

    /// Leaves sessions alone on requests for which `predicate` answers yes.
    pub const fn skip_if(mut self, predicate: fn(&Parts) -> bool) -> Self {
        self.skip_if = Some(predicate);
        self
    }

    /// The session key under which the time of the last refresh is kept, as Unix milliseconds in a text of
    /// digits, without a [`LifetimeLayer`](crate::LifetimeLayer). Default: `session_refresh.refreshed_at`.
    pub const fn key(mut self, key: &'static str) -> Self {
        self.key = Some(key);
        self
    }

    /// Each field of `self`, or where it is not set that of `defaults`.
    pub(crate) fn or(self, defaults: Self) -> Self {
        Self {
            interval: self.interval.or(defaults.interval),
            passive: self.passive.or(defaults.passive),
            skip_staff: self.skip_staff.or(defaults.skip_staff),
            skip_superuser: self.skip_superuser.or(defaults.skip_superuser),
            skip_unauthenticated: self.skip_unauthenticated.or(defaults.skip_unauthenticated),
            skip_prefetch: self.skip_prefetch.or(defaults.skip_prefetch),
            skip_paths: self.skip_paths.or(defaults.skip_paths),
            skip_if: self.skip_if.or(defaults.skip_if),
            key: self.key.or(defaults.key),
        }
    }

    /// Whether nothing but the user's role can answer this policy.
    pub(crate) fn asks_for_role(&self) -> bool {
        self.skip_staff.unwrap_or(false) || self.skip_superuser.unwrap_or(false)
    }

    /// Why a request is no activity, if it is none.
    pub(crate) fn inactivity(&self, headers: &HeaderMap) -> Option<Inactivity> {
        if self.passive.unwrap_or(false) {
            Some(Inactivity::Passive)
        } else if self.skip_prefetch.unwrap_or(true) && is_speculative(headers) {
            Some(Inactivity::Prefetch)
        } else {
            None
        }
    }

    pub(crate) fn skips_unauthenticated(&self) -> bool {
        self.skip_unauthenticated.unwrap_or(true)
    }
}

/// Whether the browser fetches in advance what nobody has asked for yet, by the Fetch Standard's header.
fn is_speculative(headers: &HeaderMap) -> bool {
    static SEC_PURPOSE: HeaderName = HeaderName::from_static("sec-purpose");
    let mut purposes = headers.get_all(&SEC_PURPOSE).iter();
    purposes.any(|purpose| {
        let purpose = purpose.to_str().unwrap_or_default();
        // `prefetch;prerender`, `prefetch;anonymous-client-ip`: a token and its parameters.
        purpose.split([',', ';']).any(|word| {
            let word = word.trim();
            word.eq_ignore_ascii_case("prefetch") || word.eq_ignore_ascii_case("prerender")
        })
    })
}

/// The policy of one route. The attribute implements it; an application may, too, to write a
/// [`Decided`](crate::Decided) by hand.
pub trait RefreshPolicy: 'static {
    /// The extractor that says who the user is, or [`FromLayer`](crate::FromLayer).
    type User: RouteUser;

    /// What the route asks for.
    const POLICY: Policy;
}
