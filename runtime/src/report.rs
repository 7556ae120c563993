//! What is in force: the routes' policies, as requests meet them, and how long their sessions live.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use http::{Method, request::Parts};
use time::Duration;

use crate::{
    events::in_words,
    lifetime::Lifetime,
    policy::Policy,
    request::{self, FoundSession},
};

/// What is in force, as a table for an application's documentation: ASVS 5, 7.1.1 asks for that of each application.
///
/// A policy is made of an attribute, its named policy and the layers around it, and a session's life of two layers, so both
/// are known when a request comes. Begin a report when the application starts, have its tests or its users visit the routes,
/// and print it. Routes without a policy are not in it, nor those that nobody has visited since.
///
/// ```
/// # #[cfg(all(feature = "tower-sessions-0_14", feature = "memory-store"))]
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// # use axum::{Router, body::Body, extract::Request, routing::get};
/// # use session_refresh::{LifetimeLayer, PolicyReport, session_refresh};
/// # use tower::ServiceExt as _;
/// # use tower_sessions::{Expiry, MemoryStore, SessionManagerLayer};
/// use time::Duration;
///
/// #[session_refresh(interval = "5m")]
/// async fn account() {}
///
/// let sessions = LifetimeLayer::new(MemoryStore::default(), |store| {
///     SessionManagerLayer::new(store).with_expiry(Expiry::OnInactivity(Duration::hours(1)))
/// })
/// .with_max_lifetime(Duration::hours(24));
/// let app: Router = Router::new().route("/account", get(account)).layer(sessions);
///
/// let report = PolicyReport::begin();
/// app.oneshot(Request::get("/account").body(Body::empty()).unwrap()).await.unwrap();
/// assert_eq!(report.to_string(), "\
/// | route | a session ends | it is extended | not extended |
/// |---|---|---|---|
/// | `GET /account` | 1h after its last extension, and 1day after it began | at most every 5m | prefetched pages |
/// ");
/// # }
/// # #[cfg(not(all(feature = "tower-sessions-0_14", feature = "memory-store")))] fn main() {}
/// ```
///
/// Reports of one process show the same. Until the first one is begun, nothing is collected.
#[derive(Debug)]
#[must_use]
pub struct PolicyReport(());

static IS_BEGUN: AtomicBool = AtomicBool::new(false);

/// By path and method, so that a route's lines stand together.
static LINES: Mutex<BTreeMap<(String, String), Line>> = Mutex::new(BTreeMap::new());

/// What is in force on one route.
struct Line {
    lifetime: Lifetime,
    max_lifetime: Option<Duration>,
    interval: Duration,
    policy: Policy,
    knows_user: bool,
}

impl PolicyReport {
    /// Collects from now on.
    pub fn begin() -> Self {
        IS_BEGUN.store(true, Ordering::Relaxed);
        Self(())
    }
}

/// Remembers what is in force for a request, if a report was begun.
#[inline]
pub(crate) fn note(
    parts: &Parts,
    session: &FoundSession<'_>,
    policy: &Policy,
    interval: Duration,
    knows_user: bool,
) {
    if !IS_BEGUN.load(Ordering::Relaxed) {
        return;
    }
    let (lifetime, max_lifetime) = session.usual_lifetime();
    let line = Line {
        lifetime,
        max_lifetime,
        interval,
        policy: *policy,
        knows_user,
    };
    // A client may make up as many methods as it likes.
    let method = match parts.method {
        ref method @ (Method::GET
        | Method::HEAD
        | Method::POST
        | Method::PUT
        | Method::PATCH
        | Method::DELETE
        | Method::OPTIONS
        | Method::TRACE
        | Method::CONNECT) => method.as_str(),
        _ => "(another)",
    };
    let key = (request::route(parts).to_owned(), method.to_owned());
    let mut lines = LINES.lock().unwrap_or_else(PoisonError::into_inner);
    lines.insert(key, line);
}

impl fmt::Display for PolicyReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "| route | a session ends | it is extended | not extended |"
        )?;
        writeln!(f, "|---|---|---|---|")?;
        let lines = LINES.lock().unwrap_or_else(PoisonError::into_inner);
        for ((path, method), line) in &*lines {
            let (ends, extended, not) = (line.ends(), line.extended(), line.not_extended());
            writeln!(f, "| `{method} {path}` | {ends} | {extended} | {not} |")?;
        }
        Ok(())
    }
}

impl Line {
    fn ends(&self) -> String {
        let ends = match self.lifetime.idle {
            Some(idle) => format!("{} after its last extension", in_words(idle)),
            None => String::from("at a fixed time"),
        };
        match self.max_lifetime {
            Some(max) => format!("{ends}, and {} after it began", in_words(max)),
            None => ends,
        }
    }

    fn extended(&self) -> String {
        if self.policy.passive.unwrap_or(false) {
            String::from("never: the route is passive")
        } else if self.lifetime.idle.is_none() {
            String::from("never: its end is fixed")
        } else {
            format!("at most every {}", in_words(self.interval))
        }
    }

    fn not_extended(&self) -> String {
        let policy = &self.policy;
        let mut not = Vec::new();
        if policy.skips_unauthenticated() && self.knows_user {
            not.push(String::from("of visitors"));
        }
        if policy.skip_staff.unwrap_or(false) {
            not.push(String::from("of staff"));
        }
        if policy.skip_superuser.unwrap_or(false) {
            not.push(String::from("of superusers"));
        }
        if policy.skip_prefetch.unwrap_or(true) {
            not.push(String::from("prefetched pages"));
        }
        for path in policy.skip_paths.unwrap_or_default() {
            not.push(format!("`{path}..`"));
        }
        if policy.skip_if.is_some() {
            not.push(String::from("what its predicate says"));
        }
        not.join("; ")
    }
}
