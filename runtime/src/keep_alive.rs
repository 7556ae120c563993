//! Warns a person before the session ends, and lets them stay: ready routes, and a script with a custom element.
//!
//! ```
//! # #[cfg(feature = "memory-store")] {
//! use axum::{Router, response::Html, routing::get};
//! use session_refresh::{LifetimeLayer, keep_alive::KeepAlive};
//! use time::Duration;
//! use tower_sessions::{Expiry, MemoryStore, SessionManagerLayer};
//!
//! let page = Html(r#"
//!     <script type="module" src="/keep-alive/keep-alive.js"></script>
//!     <session-keep-alive sign-out="/logout"></session-keep-alive>
//! "#);
//! let sessions = LifetimeLayer::new(MemoryStore::default(), |store| {
//!     SessionManagerLayer::new(store).with_expiry(Expiry::OnInactivity(Duration::minutes(30)))
//! });
//! let app: Router = Router::new()
//!     .route("/", get(page))
//!     .merge(KeepAlive::new("/keep-alive").with_warning(Duration::minutes(3)).router())
//!     .layer(sessions);
//! # }
//! ```
//!
//! # What a person meets
//!
//! A dialog comes up before the session ends, counts down, and offers "Stay signed in" and "Sign out": WCAG 2.2, 2.2.1 asks
//! for a warning of 20 seconds at least and a simple action, 2.2.6 for being told. It takes the focus and gives it back,
//! works by keyboard (Escape stays), speaks to screen readers (`role="alertdialog"`) and moves nothing. A session that can't
//! be extended, since it has a fixed end or has reached its absolute limit, is announced likewise, without the button.
//!
//! Tabs of one browser follow each other, times are relative, so that a wrong clock does no harm, and a laptop that has slept
//! asks before it says anything. The script asks the server when a warning is due, not by the minute, and asking extends
//! nothing.
//!
//! # The element
//!
//! | attribute of `<session-keep-alive>` | what it is | default |
//! |---|---|---|
//! | `endpoint` | the path that [`KeepAlive::new`] was given | the script's folder |
//! | `sign-out` | where "Sign out" posts a form to; without it and the slot, there is no such button | |
//! | `sign-in` | where "Sign in again" leads when the session has ended | the page is loaded again |
//! | `heading`, `message`, `message-final`, `stay`, `stayed`, `dismiss`, `sign-out-label`, `ended-heading`, `ended-message`, `sign-in-label`, `error`, `announce` | the texts, `{time}` in them is the time left | English |
//!
//! Give a form of your own, with a token against forged requests, say, in the slot `sign-out`:
//!
//! ```html
//! <session-keep-alive>
//!   <form slot="sign-out" method="post" action="/logout">..<button>Sign out</button></form>
//! </session-keep-alive>
//! ```
//!
//! and hide it until the script is there: `session-keep-alive:not(:defined) { display: none }`.
//!
//! It needs no more of a Content Security Policy than `script-src 'self'; connect-src 'self'`, and trusted types may be
//! required. It fires `session-warning`, `session-extended` and `session-ended`, the last of which can be cancelled
//! (`preventDefault`) by a page that shows something else. Its looks are four properties, `--session-keep-alive-accent`,
//! `-on-accent`, `-background` and `-text`, and its parts `dialog`, `heading`, `message`, `stay`, `dismiss`, `sign-out` and
//! `sign-in` (`::part(dialog)`).
//!
//! # The routes
//!
//! `GET` on the path tells how long the session lives, and `POST` extends it because a person has asked for that, whatever
//! the routes' policies say of staff or superusers. Both answer
//! `{"seconds_left": 118.2, "warn_before": 120, "can_stay": true}`, where `seconds_left` is `null` if there is no session,
//! with `Cache-Control: no-store`; and 503 if the store can't be asked, which is not to be taken for the end of a session.
//! `POST` answers 403 to any page but those of the same origin (`Sec-Fetch-Site`, else `Origin` against `Host`).
//!
//! They need a [`LifetimeLayer`](crate::LifetimeLayer), and answer 500 without one: a plain layer does not know when a session
//! ends.

use axum::{
    Router,
    body::Body,
    extract::Request,
    response::Response,
    routing::{MethodRouter, get},
};
use http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use serde_json::json;
use time::Duration;

use crate::{
    decide,
    events::Misuse,
    outcome::{Outcome, RefreshInfo},
    policy::Policy,
    request::FoundSession,
    schedule::Millis,
    user::FromLayer,
};

/// The script that defines `<session-keep-alive>`, for an application that serves or bundles it by itself.
pub const SCRIPT: &str = include_str!("keep_alive/keep-alive.js");

/// Routes that tell a person before the session ends and let them stay, and the script for them.
///
/// See the [module](self) for the whole.
#[derive(Clone, Debug)]
#[must_use]
pub struct KeepAlive {
    path: String,
    warn_before: Duration,
}

impl KeepAlive {
    /// Routes at `path`, and the script at `path/keep-alive.js`. The warning comes two minutes before the end.
    ///
    /// # Panics
    /// If the path does not begin with `/`, or ends with it.
    pub fn new(path: impl Into<String>) -> Self {
        let path = path.into();
        assert!(
            path.starts_with('/') && !path.ends_with('/'),
            "the path of `KeepAlive` begins with `/` and does not end with it"
        );
        Self {
            path,
            warn_before: Duration::minutes(2),
        }
    }

    /// Warns so long before the end. Choose less than the session's idle time: else the warning is there at once.
    ///
    /// # Panics
    /// If that is less than 20 seconds, the least that WCAG 2.2.1 allows.
    pub fn with_warning(mut self, warn_before: Duration) -> Self {
        assert!(
            warn_before >= Duration::seconds(20),
            "a person is warned at least 20 seconds before the end (WCAG 2.2.1)"
        );
        self.warn_before = warn_before;
        self
    }

    /// The routes, for a place inside of the session's layer.
    pub fn router<S: Clone + Send + Sync + 'static>(self) -> Router<S> {
        let Self { path, warn_before } = self;
        let script = format!("{path}/keep-alive.js");
        let session: MethodRouter<S> = get(move |request: Request| ask(request, warn_before))
            .post(move |request: Request| stay(request, warn_before));
        Router::new()
            .route(&path, session)
            .route(&script, get(serve_script))
    }
}

const ASK: Policy = EVERYBODY.passive(true);

/// A person's answer is not to be taken for the same one as before: it counts whenever it comes.
const STAY: Policy = EVERYBODY.interval(Duration::MILLISECOND).passive(false);

/// What the routes in general leave out does not hold here.
const EVERYBODY: Policy = Policy::new()
    .skip_staff(false)
    .skip_superuser(false)
    .skip_unauthenticated(false)
    .skip_paths(&[])
    .skip_if(|_| false);

/// How long the session lives.
async fn ask(request: Request, warn_before: Duration) -> Response {
    answer(request, &ASK, warn_before).await
}

/// Extends the session.
async fn stay(request: Request, warn_before: Duration) -> Response {
    if !is_same_origin(request.headers(), request.uri()) {
        let mut refused = Response::new(Body::from("This is for pages of the same origin alone."));
        *refused.status_mut() = StatusCode::FORBIDDEN;
        return refused;
    }
    answer(request, &STAY, warn_before).await
}

async fn answer(request: Request, policy: &Policy, warn_before: Duration) -> Response {
    let (mut parts, _) = request.into_parts();
    let Some(FoundSession::Owned(handle)) = FoundSession::of(&parts.extensions) else {
        return Misuse::NoLifetimeLayer.into_response();
    };
    let now = handle.request.now();
    let decision = match decide::decide::<FromLayer, ()>(&mut parts, &(), policy).await {
        Ok(decision) => decision,
        Err(misuse) => return misuse.into_response(),
    };
    let mut response = Response::new(Body::from(to_json(&decision.info, now, warn_before)));
    if decision.info.outcome == Outcome::Unavailable {
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    }
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    decision.finish(response).await
}

/// What the script reads: relative times, since the browser's clock may be wrong.
fn to_json(info: &RefreshInfo, now: Millis, warn_before: Duration) -> String {
    let left = (info.expires_at).map(|end| Millis::from(end).since(now).as_seconds_f64());
    let can_stay = (info.expires_at).is_some_and(|end| info.ends_at.is_none_or(|last| end < last));
    json!({
        "seconds_left": left,
        "warn_before": warn_before.as_seconds_f64(),
        "can_stay": can_stay,
    })
    .to_string()
}

/// Whether a page of this origin asks, as far as a browser says. One that says nothing is none of today's.
fn is_same_origin(headers: &HeaderMap, uri: &Uri) -> bool {
    if let Some(site) = headers.get("sec-fetch-site") {
        return site == "same-origin";
    }
    let host = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok());
    // HTTP/2 has it in the request's target.
    let host = host.or_else(|| uri.authority().map(http::uri::Authority::as_str));
    let origin = headers
        .get(header::ORIGIN)
        .and_then(|origin| origin.to_str().ok());
    let origin = origin.and_then(|origin| origin.split_once("://"));
    matches!((origin, host), (Some((_, origin)), Some(host)) if origin.eq_ignore_ascii_case(host))
}

async fn serve_script() -> Response {
    let mut response = Response::new(Body::from(SCRIPT));
    let headers = response.headers_mut();
    let script = HeaderValue::from_static("text/javascript; charset=utf-8");
    headers.insert(header::CONTENT_TYPE, script);
    let an_hour = HeaderValue::from_static("public, max-age=3600");
    headers.insert(header::CACHE_CONTROL, an_hour);
    response
}
