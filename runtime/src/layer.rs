//! tower's side: what the routes have in common.

use std::{
    fmt,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{self, Poll},
};

use http::{Extensions, Request, Response, request::Parts};
use pin_project_lite::pin_project;
use time::{Duration, OffsetDateTime};
use tower_layer::Layer;
use tower_service::Service;

use crate::{
    decide,
    policy::Policy,
    schedule::Millis,
    user::{FromLayer, LayerUser, UserSource},
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
    policy: Option<Policy>,
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

    /// What a route leaves unsaid, the operator says: before [`defaults`](Self::defaults), whichever is called first.
    ///
    /// An attribute's words, and a [`policy`](Self::policy), still win.
    #[cfg(feature = "config")]
    #[cfg_attr(docsrs, doc(cfg(feature = "config")))]
    pub fn config(mut self, config: crate::RefreshConfig) -> Self {
        self.context_mut().configured = config.into();
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

    /// Does for every route inside what the attribute does for one, `RefreshInfo` included.
    ///
    /// Put it on a `Router`, a nested one or a `MethodRouter`; any other tower service will do as well. Where a route
    /// has an attribute, or a group inside this one a policy, the innermost alone decides and commits.
    ///
    /// A layer can't tell a request that an extractor rejected from a handler's own 4xx: it counts both as activity,
    /// where the attribute counts only what reached the handler.
    ///
    /// ```
    /// use axum::{Router, routing::get};
    /// use session_refresh::{Policy, RefreshInfo, RefreshLayer};
    /// use time::Duration;
    ///
    /// const HOURLY: Policy = Policy::every(Duration::hours(1)).skip_paths(&["/account/poll"]);
    ///
    /// let account = Router::new()
    ///     .route("/", get(async |refresh: RefreshInfo| refresh.outcome.to_string()))
    ///     .route("/poll", get(async || "nothing new"))
    ///     .layer(RefreshLayer::new().policy(HOURLY));
    /// let app: Router = Router::new().nest("/account", account);
    /// # let _ = app;
    /// ```
    pub fn policy(mut self, policy: Policy) -> Self {
        self.policy = Some(policy);
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
            layer: self.clone(),
        }
    }
}

/// The service that [`RefreshLayer`] makes.
#[derive(Clone, Debug)]
pub struct RefreshService<S> {
    inner: S,
    layer: RefreshLayer,
}

impl<S, B, R> Service<Request<B>> for RefreshService<S>
where
    S: Service<Request<B>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send,
    B: Send + 'static,
    R: From<String> + Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = RefreshFuture<S::Future, S::Response, S::Error>;

    fn poll_ready(&mut self, cx: &mut task::Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let own = &self.layer.context;
        let context = match Context::of(request.extensions()) {
            Some(outer) => Arc::new(own.within(outer)),
            None => Arc::clone(own),
        };
        request.extensions_mut().insert(context);
        let Some(policy) = self.layer.policy else {
            return RefreshFuture::Told {
                inner: self.inner.call(request),
            };
        };
        // The service that is ready, not its clone.
        let clone = self.inner.clone();
        let inner = std::mem::replace(&mut self.inner, clone);
        RefreshFuture::Guarding {
            inner: Box::pin(guard(inner, policy, request)),
        }
    }
}

/// What the attribute does, around a service.
async fn guard<S, B, R>(
    mut inner: S,
    policy: Policy,
    request: Request<B>,
) -> Result<Response<R>, S::Error>
where
    S: Service<Request<B>, Response = Response<R>>,
    R: From<String>,
{
    let (mut parts, body) = request.into_parts();
    let decision = match decide::decide::<FromLayer, ()>(&mut parts, &(), &policy).await {
        Ok(decision) => decision,
        Err(misuse) => return Ok(misuse.into_response()),
    };
    let claim = Claim::default();
    parts.extensions.insert(claim.clone());
    let response = inner.call(Request::from_parts(parts, body)).await?;
    Ok(if claim.is_taken() {
        response
    } else {
        decision.commit(response).await
    })
}

/// How a policy inside another's reach says that it decides and commits.
#[derive(Clone, Debug, Default)]
pub(crate) struct Claim(Arc<AtomicBool>);

impl Claim {
    /// Takes over from the layer further out, if there is one.
    pub(crate) fn take(extensions: &mut Extensions) {
        if let Some(Self(taken)) = extensions.remove() {
            taken.store(true, Ordering::Relaxed);
        }
    }

    fn is_taken(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

pin_project! {
    /// The future of [`RefreshService`].
    #[project = Projected]
    pub enum RefreshFuture<F, R, E> {
        /// Only the context was added.
        #[doc(hidden)]
        Told {
            #[pin]
            inner: F,
        },
        /// A policy decides before, and commits after.
        #[doc(hidden)]
        Guarding { inner: BoxFuture<R, E> },
    }
}

type BoxFuture<R, E> = Pin<Box<dyn Future<Output = Result<R, E>> + Send>>;

impl<F, R, E> Future for RefreshFuture<F, R, E>
where
    F: Future<Output = Result<R, E>>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Self::Output> {
        match self.project() {
            Projected::Told { inner } => inner.poll(cx),
            Projected::Guarding { inner } => inner.as_mut().poll(cx),
        }
    }
}

impl<F, R, E> fmt::Debug for RefreshFuture<F, R, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RefreshFuture").finish_non_exhaustive()
    }
}

/// What a layer tells the routes inside it, as an extension of the request.
#[derive(Clone, Default)]
pub(crate) struct Context {
    pub(crate) user: Option<LayerUser>,
    /// What the operator says.
    configured: Policy,
    /// What the program says where the operator says nothing.
    defaults: Policy,
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
    pub(crate) fn now(context: Option<&Arc<Self>>, ahead: Duration) -> Millis {
        match context.and_then(|context| context.clock.as_ref()) {
            Some(clock) => clock().into(),
            None => Millis::now().saturating_add(ahead),
        }
    }

    /// What counts where a route says nothing.
    pub(crate) fn defaults(&self) -> Policy {
        self.configured.or(self.defaults)
    }

    fn within(&self, outer: &Self) -> Self {
        Self {
            user: self.user.clone().or_else(|| outer.user.clone()),
            configured: Policy::new(),
            defaults: self.defaults().or(outer.defaults()),
            clock: self.clock.clone().or_else(|| outer.clock.clone()),
        }
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("user", &self.user.is_some())
            .field("defaults", &self.defaults())
            .field("clock", &self.clock.is_some())
            .finish_non_exhaustive()
    }
}
