//! tower's side: what the routes have in common.

use std::{
    fmt,
    sync::Arc,
    task::{self, Poll},
};

use http::{Extensions, Request, request::Parts};
use time::{Duration, OffsetDateTime};
use tower_layer::Layer;
use tower_service::Service;

use crate::{
    policy::Policy,
    user::{LayerUser, UserSource},
};

/// Says for all routes inside it where the user comes from, and what a route leaves unsaid.
///
/// It is optional: without it, a session in which nobody is logged in counts as any other, and a route that skips
/// staff or superusers needs `user = Type`. Put it inside of `SessionManagerLayer` and of the authentication layer:
///
/// ```
/// # use axum::{Router, routing::get};
/// # use session_refresh::{Policy, RefreshLayer, SessionUser};
/// # use time::Duration;
/// # use tower_sessions::{MemoryStore, SessionManagerLayer};
/// # #[derive(Clone)] struct CurrentUser;
/// # impl SessionUser for CurrentUser {}
/// # impl<S: Sync> axum::extract::FromRequestParts<S> for CurrentUser {
/// #     type Rejection = ();
/// #     async fn from_request_parts(_: &mut http::request::Parts, _: &S) -> Result<Self, ()> { Ok(Self) }
/// # }
/// let app = Router::new()
///     .route("/", get(async || "hello"))
///     .layer(RefreshLayer::new().user::<CurrentUser>().defaults(Policy::every(Duration::hours(12))))
///     .layer(SessionManagerLayer::new(MemoryStore::default()));
/// # let _: Router = app;
/// ```
///
/// Of two layers around one route, the inner one is heard first, and the outer one on what it leaves unsaid.
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct RefreshLayer {
    context: Arc<Context>,
}

impl RefreshLayer {
    /// A layer that says nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the user from extractor `U`, for every route that does not name its own.
    ///
    /// A rejection with a 3xx or 4xx means that nobody is logged in; one with a 5xx, that it can't be known, and nothing
    /// is refreshed. The extractor runs only when a refresh is due, and then once more than the handler runs it: give
    /// it one that caches, as axum-login's `AuthSession` does, or one that is cheap.
    pub fn user<U: UserSource<()>>(self) -> Self {
        self.user_with_state::<U, ()>(())
    }

    /// Takes the user from extractor `U`, which needs a state.
    ///
    /// ```
    /// # use axum::extract::FromRequestParts;
    /// # use session_refresh::{RefreshLayer, SessionUser};
    /// #[derive(Clone)]
    /// struct AppState { /* a database pool, say */ }
    ///
    /// struct CurrentUser;
    ///
    /// impl FromRequestParts<AppState> for CurrentUser {
    ///     type Rejection = http::StatusCode;
    ///
    ///     async fn from_request_parts(_: &mut http::request::Parts, _: &AppState) -> Result<Self, Self::Rejection> {
    ///         Ok(CurrentUser)
    ///     }
    /// }
    ///
    /// impl SessionUser for CurrentUser {}
    ///
    /// let layer = RefreshLayer::new().user_with_state::<CurrentUser, _>(AppState {});
    /// # let _ = layer;
    /// ```
    pub fn user_with_state<U, S>(mut self, state: S) -> Self
    where
        U: UserSource<S>,
        S: Send + Sync + 'static,
    {
        self.context_mut().user = Some(LayerUser::new::<U, S>(state));
        self
    }

    /// What a route leaves unsaid, `defaults` says.
    pub fn defaults(mut self, defaults: Policy) -> Self {
        self.context_mut().defaults = defaults;
        self
    }

    /// Tells the time by which a refresh is due, so that a test need not wait 24 hours.
    ///
    /// ```
    /// use std::sync::{Arc, atomic::{AtomicI64, Ordering}};
    /// use time::{Duration, OffsetDateTime};
    ///
    /// let hours = Arc::new(AtomicI64::new(0));
    /// let clock = Arc::clone(&hours);
    /// let layer = session_refresh::RefreshLayer::new()
    ///     .clock(move || OffsetDateTime::now_utc() + Duration::hours(clock.load(Ordering::Relaxed)));
    /// hours.store(25, Ordering::Relaxed);
    /// # let _ = layer;
    /// ```
    pub fn clock(mut self, clock: impl Fn() -> OffsetDateTime + Send + Sync + 'static) -> Self {
        self.context_mut().clock = Some(Arc::new(clock));
        self
    }

    fn context_mut(&mut self) -> &mut Context {
        Arc::make_mut(&mut self.context)
    }
}

impl<S> Layer<S> for RefreshLayer {
    type Service = RefreshService<S>;

    fn layer(&self, inner: S) -> RefreshService<S> {
        RefreshService {
            inner,
            context: Arc::clone(&self.context),
        }
    }
}

/// The service that [`RefreshLayer`] makes.
#[derive(Clone, Debug)]
pub struct RefreshService<S> {
    inner: S,
    context: Arc<Context>,
}

impl<S, B> Service<Request<B>> for RefreshService<S>
where
    S: Service<Request<B>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut task::Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let context = match Context::of(request.extensions()) {
            Some(outer) => Arc::new(self.context.within(outer)),
            None => Arc::clone(&self.context),
        };
        request.extensions_mut().insert(context);
        self.inner.call(request)
    }
}

/// What a layer tells the routes inside it, as an extension of the request.
#[derive(Clone, Default)]
pub(crate) struct Context {
    pub(crate) user: Option<LayerUser>,
    pub(crate) defaults: Policy,
    clock: Option<Arc<dyn Fn() -> OffsetDateTime + Send + Sync>>,
}

impl Context {
    pub(crate) fn of(extensions: &Extensions) -> Option<&Arc<Self>> {
        extensions.get()
    }

    pub(crate) fn user_source(parts: &Parts) -> Option<LayerUser> {
        Self::of(&parts.extensions).and_then(|context| context.user.clone())
    }

    /// The time by the layer's clock if it has one, else by the store's, which is `ahead` of the real time.
    pub(crate) fn now(context: Option<&Arc<Self>>, ahead: Duration) -> OffsetDateTime {
        match context.and_then(|context| context.clock.as_ref()) {
            Some(clock) => clock(),
            None => OffsetDateTime::now_utc().saturating_add(ahead),
        }
    }

    fn within(&self, outer: &Self) -> Self {
        Self {
            user: self.user.clone().or_else(|| outer.user.clone()),
            defaults: self.defaults.or(outer.defaults),
            clock: self.clock.clone().or_else(|| outer.clock.clone()),
        }
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("user", &self.user.is_some())
            .field("defaults", &self.defaults)
            .field("clock", &self.clock.is_some())
            .finish()
    }
}
