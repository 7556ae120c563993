//! Decide and commit: the only place that reads and stamps a session.
//!
//! Nothing here knows a handler or its policy's type, so it is compiled once, however many routes there are.

use std::{
    collections::HashSet,
    fmt,
    sync::{Arc, LazyLock, Mutex, Once, PoisonError},
};

use axum::{
    extract::{MatchedPath, OriginalUri},
    response::Response,
};
use http::{HeaderMap, HeaderValue, StatusCode, header, request::Parts, response};
use time::{Duration, OffsetDateTime};
use tracing::{debug, error, info, trace, warn};

use crate::{
    TARGET,
    layer::{Claim, Context},
    metrics::Route,
    outcome::{Outcome, RefreshInfo, SkipReason},
    policy::{DEFAULT_INTERVAL, DEFAULT_KEY, Policy},
    record::{self, Loaded},
    schedule::{self, BadStamp, Extension, Millis},
    session::{self, Lifetime, Session, SessionError},
    store::{self, Commit, Committed},
    user::{Identity, SessionUser as _, UserSource},
};

/// A mistake in how the application is put together. The answer is a 500 that says how to mend it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Misuse {
    NoSessionManager,
    NoUserSource,
    NotAnnotated,
}

impl Misuse {
    fn message(self) -> &'static str {
        match self {
            Self::NoSessionManager => session::NO_SESSION,
            Self::NoUserSource => {
                "Can't tell staff or superusers: nobody says who the user is. Is there a `RefreshLayer` with \
                 `.user::<T>()` outside of this route, or `user = Type` in its attribute?"
            }
            Self::NotAnnotated => {
                "Can't extract `RefreshInfo`. Is the handler annotated with `#[session_refresh]`?"
            }
        }
    }
}

impl Misuse {
    pub(crate) fn into_response<B: From<String>>(self) -> http::Response<B> {
        let message = self.message();
        error!(target: TARGET, "{message}");
        let mut response = http::Response::new(B::from(message.to_owned()));
        *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        let text = HeaderValue::from_static("text/plain; charset=utf-8");
        response.headers_mut().insert(header::CONTENT_TYPE, text);
        response
    }
}

/// Decides by `policy`, and puts what the handler is told into the request. A policy further out steps back.
///
/// The user's look-up is the only part that is compiled for each kind of user and state.
pub(crate) async fn decide<U, S>(
    parts: &mut Parts,
    state: &S,
    policy: &Policy,
) -> Result<Decision, Misuse>
where
    U: UserSource<S>,
{
    Claim::take(&mut parts.extensions);
    let mut decision = match examine(parts, policy, U::NAMED).await? {
        Examined::Decided(decision) => decision,
        Examined::AskUser(candidate) => candidate.judge(U::identify(parts, state).await),
    };
    decision.route = Route::of(&parts.extensions);
    parts.extensions.insert(decision.info.clone());
    Ok(decision)
}

/// The first half of the decision: everything that needs no user.
enum Examined {
    Decided(Decision),
    /// A refresh is due if the policy wants this user's sessions refreshed.
    AskUser(Candidate),
}

/// What a request is told, and what is left to do when it has been answered.
#[derive(Debug)]
pub(crate) struct Decision {
    pub(crate) info: RefreshInfo,
    refresh: Option<Box<Refresh>>,
    route: Route,
}

/// A refresh that is due, its user not known yet.
struct Candidate {
    rules: Policy,
    now: Millis,
    refresh: Refresh,
}

/// A refresh that happens at commit.
struct Refresh {
    session: Session,
    context: Option<Arc<Context>>,
    interval: Duration,
    key: &'static str,
    /// What the record told at the decision.
    last: Last,
    /// What is true of the session if nothing is done.
    unrefreshed: RefreshInfo,
}

/// Asks the cheapest questions first, and loads the session only if they leave it open.
async fn examine(
    parts: &Parts,
    policy: &Policy,
    route_names_user: bool,
) -> Result<Examined, Misuse> {
    let context = Context::of(&parts.extensions);
    let rules = context.map_or(*policy, |context| policy.or(context.defaults()));
    let has_user_source = route_names_user || context.is_some_and(|context| context.user.is_some());

    let session = Session::find(&parts.extensions).ok_or(Misuse::NoSessionManager)?;
    if rules.asks_for_role() && !has_user_source {
        // Refused on the first request, not on the first that is due.
        return Err(Misuse::NoUserSource);
    }
    if !session.has_id() {
        return Ok(Examined::skipped(SkipReason::NoSession));
    }
    if rules
        .skip_paths
        .is_some_and(|prefixes| has_prefix(parts, prefixes))
    {
        return Ok(Examined::skipped(SkipReason::Path));
    }
    if rules.skip_if.is_some_and(|predicate| predicate(parts)) {
        return Ok(Examined::skipped(SkipReason::Predicate));
    }

    let interval = rules.interval.unwrap_or(DEFAULT_INTERVAL);
    let key = rules.key.unwrap_or(DEFAULT_KEY);
    let history = match History::read(&session, key, context).await {
        Ok(Some(history)) => history,
        Ok(None) => return Ok(Examined::skipped(SkipReason::NoSession)),
        Err(error) => {
            error!(target: TARGET, %error, "could not load the session");
            return Ok(Examined::settled(RefreshInfo::without_session(
                Outcome::Unavailable,
            )));
        }
    };
    let lifetime = match session.lifetime() {
        Lifetime::Fixed(end) => {
            return Ok(Examined::settled(history.fixed(end)));
        }
        Lifetime::Rolling(lifetime) => lifetime,
    };
    if interval >= lifetime {
        warn_of_interval(parts, interval, lifetime);
    }
    if !matches!(history.last, Last::Extended(_)) && !record::is_enabled() {
        advise_refresh_store();
    }
    let unrefreshed = history.info(lifetime);
    if !history.is_due(lifetime, interval) {
        return Ok(Examined::settled(unrefreshed));
    }
    if let Last::Malformed(mistake) = history.last {
        debug!(target: TARGET, %mistake, "the recorded time of the last refresh is not valid: counts as never refreshed");
    }

    let candidate = Candidate {
        rules,
        now: history.now,
        refresh: Refresh {
            session,
            context: context.cloned(),
            interval,
            key,
            last: history.last,
            unrefreshed,
        },
    };
    let ask = has_user_source && (rules.skips_unauthenticated() || rules.asks_for_role());
    Ok(if ask {
        Examined::AskUser(candidate)
    } else {
        Examined::Decided(candidate.accept())
    })
}

impl Examined {
    fn settled(info: RefreshInfo) -> Self {
        if let Outcome::Skipped(reason) = info.outcome {
            trace!(target: TARGET, %reason, "session refresh skipped");
        }
        Self::Decided(Decision {
            info,
            refresh: None,
            route: Route::default(),
        })
    }

    fn skipped(reason: SkipReason) -> Self {
        Self::settled(RefreshInfo::without_session(Outcome::Skipped(reason)))
    }
}

impl Candidate {
    /// The second half of the decision: is this somebody whose sessions the policy refreshes?
    ///
    /// `Err` is the rejection of the user's extractor.
    fn judge(self, user: Result<Identity, Response>) -> Decision {
        let identity = match user {
            Ok(identity) => identity,
            Err(rejection) if rejection.status().is_server_error() => {
                let status = rejection.status();
                error!(target: TARGET, %status, "could not look the user up: the extractor rejected the request");
                return self.reject(Outcome::Unavailable);
            }
            // Redirected to the login page, or turned away: a visitor.
            Err(_) => Identity::default(),
        };
        let rules = &self.rules;
        let reason = if rules.skips_unauthenticated() && !identity.is_authenticated() {
            SkipReason::Unauthenticated
        } else if rules.skip_superuser.unwrap_or(false) && identity.is_superuser() {
            SkipReason::Superuser
        } else if rules.skip_staff.unwrap_or(false) && identity.is_staff() {
            SkipReason::Staff
        } else {
            return self.accept();
        };
        trace!(target: TARGET, %reason, "session refresh skipped");
        self.reject(Outcome::Skipped(reason))
    }

    fn reject(self, outcome: Outcome) -> Decision {
        Decision {
            info: self.refresh.unrefreshed.with(outcome),
            refresh: None,
            route: Route::default(),
        }
    }

    fn accept(self) -> Decision {
        Decision {
            info: self.refresh.promise(self.now),
            refresh: Some(Box::new(self.refresh)),
            route: Route::default(),
        }
    }
}

impl Decision {
    /// Whether nothing is left to be done.
    pub(crate) fn is_settled(&self) -> bool {
        self.refresh.is_none()
    }

    /// Tells the response what was decided.
    pub(crate) fn tell<B>(self, mut response: http::Response<B>) -> http::Response<B> {
        self.route.count(self.info.outcome);
        response.extensions_mut().insert(self.info);
        response
    }

    /// Does what was decided, unless the answer or the session forbids it, and tells the response.
    pub(crate) async fn commit<B>(mut self, response: http::Response<B>) -> http::Response<B> {
        let (mut head, body) = response.into_parts();
        if let Some(refresh) = self.refresh.take() {
            self.info = refresh.commit(&mut head).await;
        }
        self.tell(http::Response::from_parts(head, body))
    }
}

/// Says nothing of the session: its id is a secret, and so may be its data.
impl fmt::Debug for Refresh {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Refresh")
            .field("last", &self.last)
            .finish_non_exhaustive()
    }
}

impl Refresh {
    /// What a refresh at this moment makes true. The time is that of the store's clock, if a test has given it one.
    fn promise(&self, now: Millis) -> RefreshInfo {
        let expires_at = match self.session.lifetime() {
            Lifetime::Rolling(lifetime) => now.saturating_add(lifetime).into(),
            Lifetime::Fixed(end) => end,
        };
        RefreshInfo {
            refreshed: true,
            refreshed_at: Some(now.into()),
            expires_at: Some(expires_at),
            outcome: Outcome::Refreshed,
        }
    }

    async fn commit(self, response: &mut response::Parts) -> RefreshInfo {
        let modified = self.session.is_modified();
        let info = if response.status.is_server_error() {
            self.unrefreshed
                .with(Outcome::Skipped(SkipReason::ServerError))
        } else if !modified && is_shareable(&response.headers) {
            self.unrefreshed
                .with(Outcome::Skipped(SkipReason::SharedCache))
        } else {
            self.extend(modified).await.unwrap_or_else(|error| {
                error!(target: TARGET, %error, "could not refresh the session");
                self.unrefreshed.with(Outcome::Unavailable)
            })
        };
        match info.outcome {
            Outcome::Refreshed => {
                debug!(target: TARGET, expires_at = ?info.expires_at, "session refreshed");
                if !modified {
                    keep_private(&mut response.headers);
                }
            }
            outcome => trace!(target: TARGET, reason = %outcome, "session refresh skipped"),
        }
        info
    }

    /// Extends the session as its store allows, and marks it as modified, so that `SessionManagerLayer` sends the
    /// cookie again.
    async fn extend(&self, modified: bool) -> Result<RefreshInfo, SessionError> {
        let session = &self.session;
        let gone = RefreshInfo::without_session(Outcome::Gone);
        if !session.has_id() {
            return Ok(gone);
        }
        let context = self.context.as_ref();
        let read = match self.last {
            // The touch asks the store whether it is still so.
            Last::Extended(loaded) if !modified => Some(History::of(loaded, context)),
            // Loads the record if the handler's own `load` did not find it: inserting would create a session then.
            _ => History::read(session, self.key, context).await?,
        };
        let Some(mut history) = read else {
            return Ok(gone);
        };
        let lifetime = match session.lifetime() {
            Lifetime::Fixed(end) => return Ok(history.fixed(end)),
            Lifetime::Rolling(lifetime) => lifetime,
        };
        if history.is_cleared_since(self.last) {
            return Ok(gone);
        }
        if let Last::Extended(_) = history.last {
            return self.touch(history.now, lifetime, modified).await;
        }
        if !modified {
            // Another request may have changed, refreshed or ended the session while the handler ran.
            session.load().await?;
            let Some(fresh) = History::read(session, self.key, context).await? else {
                return Ok(gone);
            };
            if !fresh.is_due(lifetime, self.interval) {
                return Ok(fresh.info(lifetime));
            }
            history = fresh;
        }
        // A session that was given a new id and saved carries nothing any more. The layer's save extends it.
        if !matches!(self.last, Last::Extended(_)) {
            session.insert_value(self.key, history.now.into()).await?;
        }
        Ok(self.promise(history.now))
    }

    /// Asks the store to move the expiry if the session is still there and due. Tells it by a save of unchanged data,
    /// since tower-sessions keeps the store to itself.
    async fn touch(
        &self,
        now: Millis,
        lifetime: Duration,
        modified: bool,
    ) -> Result<RefreshInfo, SessionError> {
        let Extension { expiry, due_before } = Extension::at(now, lifetime, self.interval);
        let commit = Commit::new(!modified, due_before.into(), expiry.into());
        let saved = store::committing(&commit, self.session.save()).await;
        match commit.result() {
            Some(Committed::Done(loaded)) => {
                // What the handler has marked as modified, or something beside it just now, is saved anyway.
                if !self.session.is_modified() {
                    loaded.mark_touched(&self.session, expiry).await?;
                }
                Ok(self.promise(now))
            }
            // Another request was faster. When exactly is not known, but that the session ends later than what was due.
            Some(Committed::NotDue) => Ok(RefreshInfo {
                refreshed: false,
                refreshed_at: None,
                expires_at: self.unrefreshed.expires_at.max(Some(due_before.into())),
                outcome: Outcome::NotDue,
            }),
            Some(Committed::Gone) => Ok(RefreshInfo::without_session(Outcome::Gone)),
            Some(Committed::Failed) => Ok(self.unrefreshed.with(Outcome::Unavailable)),
            // The handler has changed the data: the layer saves it, which extends the session.
            None => saved.map(|()| self.promise(now)),
        }
    }
}

/// What a live session's record tells of its last extension.
#[derive(Clone, Copy, Debug)]
struct History {
    now: Millis,
    last: Last,
}

#[derive(Clone, Copy, Debug)]
enum Last {
    /// The store knows when the record expires.
    Extended(Loaded),
    /// The session has a stamp.
    Stamped(Millis),
    /// It has none.
    Never,
    /// It has something else in its place.
    Malformed(BadStamp),
}

impl History {
    /// Reads the record, loading it if nobody has yet. `None` if there is none in the store.
    async fn read(
        session: &Session,
        key: &str,
        context: Option<&Arc<Context>>,
    ) -> Result<Option<Self>, SessionError> {
        if let Some(loaded) = Loaded::of_session(session).await? {
            return Ok(Some(Self::of(loaded, context)));
        }
        let stamp = session.get_value(key).await?;
        if !session.has_id() {
            return Ok(None);
        }
        let now = Context::now(context, Duration::ZERO);
        let last = match stamp.map(|stamp| schedule::from_stamp(&stamp, now)) {
            None => Last::Never,
            Some(Ok(at)) => Last::Stamped(at),
            Some(Err(mistake)) => Last::Malformed(mistake),
        };
        Ok(Some(Self { now, last }))
    }

    fn of(loaded: Loaded, context: Option<&Arc<Context>>) -> Self {
        Self {
            now: Context::now(context, loaded.clock_ahead),
            last: Last::Extended(loaded),
        }
    }

    /// Whether the handler has cleared the session, as some applications log out.
    fn is_cleared_since(&self, earlier: Last) -> bool {
        matches!(
            (earlier, self.last),
            (Last::Extended(_) | Last::Stamped(_), Last::Never)
        )
    }

    fn is_due(&self, lifetime: Duration, interval: Duration) -> bool {
        match self.last {
            Last::Extended(loaded) => {
                Extension::at(self.now, lifetime, interval).is_due(loaded.expiry)
            }
            Last::Stamped(at) => schedule::is_due(Some(at), self.now, interval),
            Last::Never | Last::Malformed(_) => schedule::is_due(None, self.now, interval),
        }
    }

    /// What is true of a session with this lifetime if it is not refreshed.
    fn info(&self, lifetime: Duration) -> RefreshInfo {
        let (refreshed_at, expires_at) = match self.last {
            // A session that was given another lifetime may end later than an extension just now would make it.
            Last::Extended(Loaded { expiry, .. }) => (
                Some(expiry.saturating_sub(lifetime)).filter(|at| *at <= self.now),
                Some(expiry),
            ),
            // A session that lives on after this has been written since, by whom is not known.
            Last::Stamped(at) => (
                Some(at),
                Some(at.saturating_add(lifetime)).filter(|end| *end > self.now),
            ),
            Last::Never | Last::Malformed(_) => (None, None),
        };
        RefreshInfo {
            refreshed: false,
            refreshed_at: refreshed_at.map(Into::into),
            expires_at: expires_at.map(Into::into),
            outcome: Outcome::NotDue,
        }
    }

    /// What is true of a session that ends at a fixed time.
    fn fixed(&self, end: OffsetDateTime) -> RefreshInfo {
        let (refreshed_at, expires_at) = match self.last {
            Last::Extended(loaded) => (None, loaded.expiry.into()),
            Last::Stamped(at) => (Some(at.into()), end),
            Last::Never | Last::Malformed(_) => (None, end),
        };
        RefreshInfo {
            refreshed: false,
            refreshed_at,
            expires_at: Some(expires_at),
            outcome: Outcome::Skipped(SkipReason::FixedExpiry),
        }
    }
}

/// Says once what a plain store can't promise.
fn advise_refresh_store() {
    static SAID: Once = Once::new();
    SAID.call_once(|| {
        info!(
            target: TARGET,
            "this session store saves whole records: a refresh that races a write may overwrite it, and one that races a \
             logout may undo it; `session_refresh::store::RefreshStore` around a store that can touch does neither"
        );
    });
}

fn has_prefix(parts: &Parts, prefixes: &[&str]) -> bool {
    // A nested router sees the rest of the path only.
    let uri = parts
        .extensions
        .get::<OriginalUri>()
        .map_or(&parts.uri, |original| &original.0);
    prefixes.iter().any(|prefix| uri.path().starts_with(prefix))
}

/// Whether the headers ask shared caches to keep the response, and so to serve it, cookie included, to somebody else:
/// RFC 9111 §3 says that `Set-Cookie` does not prevent it.
fn is_shareable(headers: &HeaderMap) -> bool {
    let mut fresh = headers
        .get(header::EXPIRES)
        .is_some_and(|at| at != "0" && at != "-1");
    for value in headers.get_all(header::CACHE_CONTROL) {
        for directive in value.to_str().unwrap_or_default().split(',') {
            let directive = directive.to_ascii_lowercase();
            let (name, argument) = directive.split_once('=').unwrap_or((&directive, ""));
            match (name.trim(), argument.trim()) {
                // With an argument, these limit only the fields that it names; a careful reader shares the rest.
                ("private" | "no-store", "") => return false,
                ("public", _) => fresh = true,
                ("max-age" | "s-maxage", seconds) => fresh |= seconds != "0",
                _ => {}
            }
        }
    }
    fresh
}

/// Keeps a response that bears the refreshed cookie out of shared caches, which may store one without a word on caching,
/// or with words that do not forbid it, too (RFC 9111 §3 and §4.2.2).
fn keep_private(headers: &mut HeaderMap) {
    let said = |directive: &str| {
        ["private", "no-store"].contains(&directive.trim().to_ascii_lowercase().as_str())
    };
    let is_said = headers
        .get_all(header::CACHE_CONTROL)
        .iter()
        .any(|value| value.to_str().unwrap_or_default().split(',').any(said));
    if !is_said {
        headers.append(header::CACHE_CONTROL, HeaderValue::from_static("private"));
    }
}

/// Says once per route that a session may end before its refresh is due.
fn warn_of_interval(parts: &Parts, interval: Duration, lifetime: Duration) {
    static WARNED: LazyLock<Mutex<HashSet<(String, Duration)>>> = LazyLock::new(Mutex::default);
    // The pattern, not the path: a client could make up as many paths as it likes.
    let route = parts
        .extensions
        .get::<MatchedPath>()
        .map_or("", MatchedPath::as_str);
    let key = (route.to_owned(), interval);
    let first = WARNED
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .insert(key);
    if first {
        let text = |duration: Duration| {
            let duration = std::time::Duration::try_from(duration).unwrap_or_default();
            humantime::format_duration(duration).to_string()
        };
        warn!(
            target: TARGET,
            route,
            interval = text(interval),
            inactivity_expiry = text(lifetime),
            "the refresh interval is not shorter than the session's inactivity expiry: sessions end before they are refreshed"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(cache_control: &str) -> HeaderMap {
        HeaderMap::from_iter([(header::CACHE_CONTROL, cache_control.parse().unwrap())])
    }

    #[test]
    fn a_response_is_shareable_when_a_shared_cache_may_store_it() {
        for shared in [
            "public",
            "max-age=60",
            "Public, max-age=60",
            "s-maxage=1",
            "must-revalidate, max-age=1",
            "private=\"x-a\", max-age=1",
            "max-age = 9",
            "max-age=0, s-maxage=60",
            "no-cache, public",
        ] {
            assert!(is_shareable(&headers(shared)), "{shared}");
        }
        for own in [
            "private",
            "no-store",
            "max-age=60, PRIVATE",
            "no-cache",
            "no-cache, must-revalidate, max-age=0",
            "max-age=0, must-revalidate",
            "",
            "public, no-store",
        ] {
            assert!(!is_shareable(&headers(own)), "{own}");
        }
        assert!(!is_shareable(&HeaderMap::new()));
        let expires = HeaderMap::from_iter([(
            header::EXPIRES,
            HeaderValue::from_static("Thu, 01 Dec 2044 16:00:00 GMT"),
        )]);
        assert!(is_shareable(&expires));
        let never = HeaderMap::from_iter([(header::EXPIRES, HeaderValue::from_static("0"))]);
        assert!(!is_shareable(&never));
    }

    #[test]
    fn a_refreshed_response_becomes_private_unless_it_is_more() {
        let kept = |mut headers: HeaderMap| {
            keep_private(&mut headers);
            let values = headers
                .get_all(header::CACHE_CONTROL)
                .iter()
                .map(|value| value.to_str().unwrap().to_owned());
            values.collect::<Vec<_>>().join(", ")
        };
        assert_eq!(kept(HeaderMap::new()), "private");
        assert_eq!(kept(headers("no-cache")), "no-cache, private");
        assert_eq!(
            kept(headers("stale-while-revalidate=60")),
            "stale-while-revalidate=60, private"
        );
        assert_eq!(kept(headers("private=\"x-a\"")), "private=\"x-a\", private");
        assert_eq!(kept(headers("no-store")), "no-store");
        assert_eq!(kept(headers("no-cache, Private")), "no-cache, Private");
    }
}
