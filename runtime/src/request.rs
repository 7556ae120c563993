//! What the layers further out have left in a request: the session with its handle, and what routes inherit.

use std::{fmt, marker::PhantomData, sync::Arc};

use axum::{
    extract::{MatchedPath, OriginalUri},
    response::Response,
};
use http::{Extensions, request::Parts};
use time::Duration;

use crate::{
    lifetime::Lifetime,
    outcome::RefreshInfo,
    policy::Policy,
    schedule::Millis,
    session::{Release, Session, for_each_release},
    store::{Clock, RequestSession},
    user::{FromLayer, Identify, Identity, LayerUser},
};

/// The handle of a session that a `LifetimeLayer` owns.
#[derive(Clone)]
pub(crate) struct Handle {
    pub(crate) session: Session,
    pub(crate) request: Arc<RequestSession>,
}

/// The innermost handle of a release, as an extension.
#[derive(Clone)]
struct HandleOf<R>(Handle, PhantomData<fn() -> R>);

impl Handle {
    /// Leaves the handle of a session of release `R` for whoever is further in.
    pub(crate) fn leave_in<R: Release>(self, extensions: &mut Extensions) {
        extensions.insert(HandleOf::<R>(self, PhantomData));
    }

    /// The handle of this session. A plain layer further in has a session of its own, which a handle knows nothing of.
    fn of<'a>(session: &Session, extensions: &'a Extensions) -> Option<&'a Self> {
        Self::find(extensions, |handle| handle.session.is(session))
    }

    /// The innermost handle that is in the request.
    fn innermost(extensions: &Extensions) -> Option<&Self> {
        Self::find(extensions, |_| true)
    }

    /// The first of the releases' innermost handles that is the one.
    fn find(extensions: &Extensions, is_it: impl Fn(&Self) -> bool) -> Option<&Self> {
        macro_rules! find {
            ($release:ident, $tower_sessions:ident) => {
                if let Some(HandleOf(handle, _)) =
                    extensions.get::<HandleOf<crate::session::$release>>()
                    && is_it(handle)
                {
                    return Some(handle);
                }
            };
        }
        for_each_release!(find);
        None
    }
}

/// The session that counts here: the innermost one.
pub(crate) enum FoundSession<'a> {
    /// A `LifetimeLayer` owns it.
    Owned(&'a Handle),
    /// tower-sessions' layer stands alone.
    Plain(Session),
}

impl<'a> FoundSession<'a> {
    pub(crate) fn of(extensions: &'a Extensions) -> Option<Self> {
        let session = Session::find(extensions)?;
        Some(match Handle::of(&session, extensions) {
            Some(handle) => Self::Owned(handle),
            None => Self::Plain(session),
        })
    }

    pub(crate) fn has_id(&self) -> bool {
        match self {
            Self::Owned(handle) => handle.session.id().is_some(),
            Self::Plain(session) => session.id().is_some(),
        }
    }

    /// What its layers say of all sessions: how long they live, and their absolute limit.
    pub(crate) fn usual_lifetime(&self) -> (Lifetime, Option<Duration>) {
        match self {
            Self::Owned(handle) => handle.request.usual_lifetime(),
            Self::Plain(session) => (Lifetime::alone(session.expiry()), None),
        }
    }
}

/// Leaves what became of the session for extractors further in, with the session's handle if there is one; or forgets what
/// somebody further out has left.
pub(crate) fn set_info(info: Option<RefreshInfo>, extensions: &mut Extensions) {
    match (Handle::innermost(extensions), info) {
        (Some(handle), info) => handle.request.set_info(info),
        (None, Some(info)) => drop(extensions.insert(info)),
        (None, None) => drop(extensions.remove::<RefreshInfo>()),
    }
}

/// What became of the session, if that is decided.
pub(crate) fn info(extensions: &Extensions) -> Option<RefreshInfo> {
    match Handle::innermost(extensions) {
        Some(handle) => handle.request.info(),
        None => extensions.get().cloned(),
    }
}

/// What routes inherit from the `RefreshLayer`s around them.
#[derive(Clone, Default)]
pub(crate) struct Inherited {
    pub(crate) user: Option<LayerUser>,
    /// What the operator says.
    pub(crate) configured: Policy,
    /// What the program says where the operator says nothing.
    pub(crate) defaults: Policy,
    /// By which a plain layer's sessions are due.
    pub(crate) clock: Option<Clock>,
    /// The response's extensions get the `RefreshInfo`.
    pub(crate) informs_response: bool,
}

impl Inherited {
    pub(crate) fn of(extensions: &Extensions) -> Option<&Arc<Self>> {
        extensions.get()
    }

    pub(crate) fn now(&self) -> Millis {
        self.clock
            .as_ref()
            .map_or_else(Millis::now, |clock| clock().into())
    }

    /// The policy for what a route leaves out.
    pub(crate) fn policy(&self) -> Policy {
        self.configured.or(self.defaults)
    }

    /// What routes inherit inside of both: from this layer, and for the rest from the one further out.
    pub(crate) fn within(&self, outer: &Self) -> Self {
        Self {
            user: self.user.clone().or_else(|| outer.user.clone()),
            configured: Policy::new(),
            defaults: self.policy().or(outer.policy()),
            clock: self.clock.clone().or_else(|| outer.clock.clone()),
            informs_response: self.informs_response || outer.informs_response,
        }
    }
}

impl fmt::Debug for Inherited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inherited")
            .field("user", &self.user.is_some())
            .field("policy", &self.policy())
            .field("clock", &self.clock.is_some())
            .finish_non_exhaustive()
    }
}

impl<S: Sync> Identify<S> for FromLayer {
    async fn identify(parts: &mut Parts, _: &S) -> Result<Identity, Response> {
        let user = Inherited::of(&parts.extensions).and_then(|inherited| inherited.user.clone());
        match user {
            Some(user) => user.identify(parts).await,
            None => Ok(Identity::default()),
        }
    }
}

/// Whether the path that the client asked for begins with one of these. A nested router sees only the rest of it.
pub(crate) fn has_prefix(parts: &Parts, prefixes: &[&str]) -> bool {
    let original = parts.extensions.get::<OriginalUri>();
    let uri = original.map_or(&parts.uri, |original| &original.0);
    prefixes.iter().any(|prefix| uri.path().starts_with(prefix))
}

/// The pattern of the route, not its path: a client could make up as many paths as it likes.
pub(crate) fn route(parts: &Parts) -> &str {
    let matched = parts.extensions.get::<MatchedPath>();
    matched.map_or("", MatchedPath::as_str)
}
