//! Whether a request refreshes its session: the questions, cheapest first.
//!
//! Nothing here knows a handler or its policy's type, so it is compiled once, however many routes there are.

use std::{
    collections::HashSet,
    sync::{Arc, LazyLock, Mutex, Once, PoisonError},
};

use axum::response::Response;
use http::{Extensions, request::Parts};
use time::Duration;

use crate::{
    events::{self, Misuse},
    lifetime::Lifetime,
    metrics::Route,
    outcome::{Finding, Outcome, RefreshInfo, SkipReason},
    policy::{DEFAULT_INTERVAL, DEFAULT_KEY, Policy},
    report,
    request::{self, FoundSession, Inherited},
    stamping::{self, StampRefresh},
    touching::{self, TouchRefresh},
    user::{FromLayer, Identity, Named as _, UserSource},
};

/// Decides by `policy`, refreshes if that is due and can be done now, and puts the [`RefreshInfo`] into the request.
///
/// A group's policy further out gives way. The user's look-up is the only part that is compiled for each kind of user
/// and state.
pub(crate) async fn decide<U, S>(
    parts: &mut Parts,
    state: &S,
    policy: &Policy,
) -> Result<Decision, Misuse>
where
    U: UserSource<S>,
{
    if let Some(group) = parts.extensions.remove::<GroupRefresh>() {
        group.give_way().await;
    }
    let rules = Rules::of(parts, policy, U::NAMED);
    let decision = match examine(parts, &rules).await? {
        Finding::Settled(info) => Decision::settled(info),
        Finding::Due(due) => due.refresh::<U, S>(&rules, parts, state).await,
    };
    Ok(decision.left_in(&mut parts.extensions, &rules))
}

/// What a request is answered with beside the response, and what is left to do then.
pub(crate) struct Decision {
    pub(crate) info: RefreshInfo,
    stamp: Option<Box<StampRefresh>>,
    route: Route,
    informs_response: bool,
}

impl Decision {
    fn settled(info: RefreshInfo) -> Self {
        Self {
            info,
            stamp: None,
            route: Route::default(),
            informs_response: false,
        }
    }

    /// Leaves the [`RefreshInfo`] for extractors further in, and remembers what the end needs of the request.
    fn left_in(mut self, extensions: &mut Extensions, rules: &Rules) -> Self {
        self.route = Route::of(extensions);
        self.informs_response =
            (rules.inherited.as_ref()).is_some_and(|layers| layers.informs_response);
        request::set_info(Some(self.info.clone()), extensions);
        self
    }

    /// Whether nothing is left but [`inform`](Self::inform).
    pub(crate) fn is_settled(&self) -> bool {
        self.stamp.is_none()
    }

    /// Counts the request, and puts the final [`RefreshInfo`] into the response if that is asked for.
    pub(crate) fn inform<B>(self, mut response: http::Response<B>) -> http::Response<B> {
        self.route.count(self.info.outcome);
        if self.informs_response {
            response.extensions_mut().insert(self.info);
        }
        response
    }

    /// Writes the stamp that is pending, if one is.
    pub(crate) async fn finish<B>(mut self, response: http::Response<B>) -> http::Response<B> {
        let (mut head, body) = response.into_parts();
        if let Some(stamp) = self.stamp.take() {
            self.info = stamp.write(&mut head).await;
        }
        self.inform(http::Response::from_parts(head, body))
    }
}

/// What is in force for a request.
struct Rules {
    /// The route's, and what the layers around it say where that says nothing.
    policy: Policy,
    has_user_source: bool,
    inherited: Option<Arc<Inherited>>,
}

impl Rules {
    fn of(parts: &Parts, policy: &Policy, route_names_user: bool) -> Self {
        let inherited = Inherited::of(&parts.extensions).cloned();
        let layers = inherited.as_ref();
        Self {
            policy: layers.map_or(*policy, |layers| policy.or(layers.policy())),
            has_user_source: route_names_user || layers.is_some_and(|layers| layers.user.is_some()),
            inherited,
        }
    }

    fn ask_for_user(&self) -> bool {
        self.has_user_source && (self.policy.skips_unauthenticated() || self.policy.asks_for_role())
    }

    /// Why this is nobody whose sessions the policy refreshes. `Err` is the rejection of the user's extractor.
    fn judge(&self, user: Result<Identity, Response>) -> Option<Outcome> {
        let identity = match user {
            Ok(identity) => identity,
            Err(rejection) if rejection.status().is_server_error() => {
                events::look_up_failed(rejection.status());
                return Some(Outcome::Unavailable);
            }
            // Redirected to the login page, or turned away: a visitor.
            Err(_) => Identity::default(),
        };
        let policy = &self.policy;
        let reason = if policy.skips_unauthenticated() && !identity.is_authenticated {
            SkipReason::Unauthenticated
        } else if policy.skip_superuser.unwrap_or(false) && identity.is_superuser {
            SkipReason::Superuser
        } else if policy.skip_staff.unwrap_or(false) && identity.is_staff {
            SkipReason::Staff
        } else {
            return None;
        };
        events::skipped(reason);
        Some(Outcome::Skipped(reason))
    }
}

/// A refresh that is due, if the policy wants this user's sessions refreshed.
#[derive(Clone)]
enum DueRefresh {
    Touch(Box<TouchRefresh>),
    Stamp(Box<StampRefresh>),
}

/// Asks everything that needs no user, and loads the session only if the rest leaves it open.
async fn examine(parts: &Parts, rules: &Rules) -> Result<Finding<DueRefresh>, Misuse> {
    let policy = &rules.policy;
    let session = FoundSession::of(&parts.extensions).ok_or(Misuse::NoSession)?;
    if policy.asks_for_role() && !rules.has_user_source {
        // Refused on the first request, not on the first that is due.
        return Err(Misuse::NoUserSource);
    }
    let interval = policy.interval.unwrap_or(DEFAULT_INTERVAL);
    report::note(parts, &session, policy, interval, rules.has_user_source);
    let inactivity = policy.inactivity(&parts.headers);
    if let FoundSession::Owned(handle) = &session {
        handle.request.set_passive(inactivity.is_some());
    }
    let skip = if !session.has_id() {
        Some(SkipReason::NoSession)
    } else if (policy.skip_paths).is_some_and(|prefixes| request::has_prefix(parts, prefixes)) {
        Some(SkipReason::Path)
    } else if policy.skip_if.is_some_and(|predicate| predicate(parts)) {
        Some(SkipReason::Predicate)
    } else {
        None
    };
    if let Some(reason) = skip {
        let skipped = RefreshInfo::without_session(Outcome::Skipped(reason));
        return Ok(settled(skipped));
    }

    let warn = |lifetime: Lifetime| match lifetime.idle {
        Some(idle) if interval >= idle && inactivity.is_none() => {
            warn_of_interval(parts, interval, idle);
        }
        _ => {}
    };
    let found = match session {
        FoundSession::Owned(handle) => {
            let found = touching::examine(handle, interval, inactivity, warn).await;
            found.map(|found| found.map(DueRefresh::Touch))
        }
        FoundSession::Plain(session) => {
            let inherited = rules.inherited.as_ref();
            let key = policy.key.unwrap_or(DEFAULT_KEY);
            let found =
                stamping::examine(session, inherited, interval, key, inactivity, warn).await;
            found.map(|found| found.map(DueRefresh::Stamp))
        }
    };
    Ok(match found {
        Ok(Finding::Settled(info)) => settled(info),
        Ok(due) => due,
        Err(error) => {
            events::load_failed(error);
            Finding::Settled(RefreshInfo::without_session(Outcome::Unavailable))
        }
    })
}

fn settled<T>(info: RefreshInfo) -> Finding<T> {
    if let Outcome::Skipped(reason) = info.outcome {
        events::skipped(reason);
    }
    Finding::Settled(info)
}

impl DueRefresh {
    /// Looks the user up if the policy asks for that, and refreshes if it wants this user's sessions refreshed.
    async fn refresh<U, S>(self, rules: &Rules, parts: &mut Parts, state: &S) -> Decision
    where
        U: UserSource<S>,
    {
        if !rules.ask_for_user() {
            return self.accept().await;
        }
        match rules.judge(U::identify(parts, state).await) {
            None => self.accept().await,
            Some(outcome) => self.reject(outcome),
        }
    }

    fn reject(self, outcome: Outcome) -> Decision {
        let unrefreshed = match self {
            Self::Touch(touch) => touch.unrefreshed,
            Self::Stamp(stamp) => stamp.unrefreshed,
        };
        Decision::settled(unrefreshed.with(outcome))
    }

    async fn accept(self) -> Decision {
        match self {
            Self::Touch(touch) => Decision::settled(touch.refresh().await),
            Self::Stamp(stamp) => {
                advise_lifetime_layer();
                let promise = Decision::settled(stamp.promise());
                Decision {
                    stamp: Some(stamp),
                    ..promise
                }
            }
        }
    }
}

/// The refresh of a group of routes. Clones are the same.
///
/// Whatever decides further in, a route's attribute or an inner group, takes precedence. So the group only finds out
/// whether a refresh is due; the refresh waits until the handler takes its [`RefreshInfo`], until [`Patience`] has run out,
/// or for the answer.
#[derive(Clone)]
pub(crate) struct GroupRefresh(Arc<tokio::sync::Mutex<GroupState>>);

enum GroupState {
    Due(Box<(Rules, DueRefresh)>),
    Decided(Decision),
    /// Somebody further in decides.
    GaveWay,
}

/// How long a group's due refresh waits for somebody further in who decides.
#[derive(Clone, Copy)]
pub(crate) enum Patience {
    /// Nothing is due.
    Settled,
    /// A touch is not to come after the session's end.
    AtMost(std::time::Duration),
    /// A stamp is written after the handler.
    UntilAnswered,
}

/// Long enough for what middleware between a group and an attribute does; short beside a session's life.
const PATIENCE: Duration = Duration::milliseconds(50);

impl GroupRefresh {
    /// Finds out whether a refresh is due, and leaves a clone in the request.
    pub(crate) async fn begin(
        parts: &mut Parts,
        policy: &Policy,
    ) -> Result<(Self, Patience), Misuse> {
        if let Some(outer) = parts.extensions.remove::<Self>() {
            outer.give_way().await;
        }
        request::set_info(None, &mut parts.extensions);
        let rules = Rules::of(parts, policy, FromLayer::NAMED);
        let (state, patience) = match examine(parts, &rules).await? {
            Finding::Settled(info) => {
                let decision = Decision::settled(info).left_in(&mut parts.extensions, &rules);
                (GroupState::Decided(decision), Patience::Settled)
            }
            Finding::Due(due) => {
                let patience = match &due {
                    DueRefresh::Touch(touch) => {
                        let wait = PATIENCE.min(touch.remaining() / 2);
                        Patience::AtMost(wait.try_into().unwrap_or_default())
                    }
                    DueRefresh::Stamp(_) => Patience::UntilAnswered,
                };
                (GroupState::Due(Box::new((rules, due))), patience)
            }
        };
        let group = Self(Arc::new(tokio::sync::Mutex::new(state)));
        parts.extensions.insert(group.clone());
        Ok((group, patience))
    }

    /// Refreshes if that is still to be done. `None` if somebody further in decides.
    pub(crate) async fn settle(&self, parts: &mut Parts) -> Option<RefreshInfo> {
        let mut state = self.0.lock().await;
        if let GroupState::Due(due) = &*state {
            let (rules, due) = &**due;
            // A user's extractor that takes a `RefreshInfo` would wait for itself.
            let group = parts.extensions.remove::<Self>();
            // It stays due until it is done: whoever asks first may give up, as a `TimeoutLayer` has him do.
            let decision = due.clone().refresh::<FromLayer, ()>(rules, parts, &());
            let decision = decision.await.left_in(&mut parts.extensions, rules);
            group.map(|group| parts.extensions.insert(group));
            *state = GroupState::Decided(decision);
        }
        match &*state {
            GroupState::Decided(decision) => Some(decision.info.clone()),
            GroupState::Due(_) | GroupState::GaveWay => None,
        }
    }

    /// Lets somebody further in decide.
    async fn give_way(&self) {
        *self.0.lock().await = GroupState::GaveWay;
    }

    /// Does for the response what is left to do, unless somebody further in has.
    pub(crate) async fn finish<B>(self, response: http::Response<B>) -> http::Response<B> {
        let state = std::mem::replace(&mut *self.0.lock().await, GroupState::GaveWay);
        match state {
            GroupState::Decided(decision) => decision.finish(response).await,
            GroupState::Due(_) | GroupState::GaveWay => response,
        }
    }
}

/// Reports once what tower-sessions' layer alone can't promise.
fn advise_lifetime_layer() {
    static REPORTED: Once = Once::new();
    REPORTED.call_once(events::plain_layer);
}

/// Warns once per route that a session may end before its refresh is due.
fn warn_of_interval(parts: &Parts, interval: Duration, idle: Duration) {
    static WARNED: LazyLock<Mutex<HashSet<(String, Duration)>>> = LazyLock::new(Mutex::default);
    let route = request::route(parts);
    let first = WARNED
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .insert((route.to_owned(), interval));
    if first {
        events::interval_too_long(route, interval, idle);
    }
}
