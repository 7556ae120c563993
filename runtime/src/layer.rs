//! tower's side: what the routes have in common.

use std::{
    fmt,
    future::poll_fn,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use http::{Request, Response, request::Parts};
use pin_project_lite::pin_project;
use time::OffsetDateTime;
use tower_layer::Layer;
use tower_service::Service;

use crate::{
    decide::{GroupRefresh, Patience},
    policy::Policy,
    request::Inherited,
    user::{LayerUser, UserSource},
};

/// What all routes inside it have in common: where the user comes from, and the policy for what a route leaves out.
///
/// It is optional: without it, a session in which nobody is logged in counts as any other, and a route that skips
/// staff or superusers needs `user = Type`. The user is looked up inside of the session's layer, wherever this one is; only
/// a layer with a [`policy`](Self::policy) belongs inside of [`LifetimeLayer`](crate::LifetimeLayer):
///
/// ```
/// # #[cfg(feature = "memory-store")] {
/// # use axum::{Router, routing::get};
/// # use session_refresh::{LifetimeLayer, Policy, RefreshLayer, SessionUser};
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
///     .layer(LifetimeLayer::new(MemoryStore::default(), |store| SessionManagerLayer::new(store)));
/// # let _: Router = app; }
/// ```
///
/// Of two layers around one route, the inner one takes precedence, and the outer one sets what that leaves out.
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct RefreshLayer {
    inherited: Arc<Inherited>,
    policy: Option<Policy>,
}

impl RefreshLayer {
    /// A layer that sets nothing yet.
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
        self.inherited_mut().user = Some(LayerUser::new::<U, S>(state));
        self
    }

    /// Sets the policy fields that neither a route's attribute nor its named policy sets.
    pub fn defaults(mut self, defaults: Policy) -> Self {
        self.inherited_mut().defaults = defaults;
        self
    }

    /// Sets what the operator configures, before [`defaults`](Self::defaults), whichever is called first.
    ///
    /// An attribute's options, and a [`policy`](Self::policy), take precedence.
    #[cfg(feature = "config")]
    pub fn config(mut self, config: crate::RefreshConfig) -> Self {
        self.inherited_mut().configured = config.into();
        self
    }

    /// Sets the clock by which a refresh is due with tower-sessions' layer alone, so that a test need not wait 24 hours.
    ///
    /// A [`LifetimeLayer`](crate::LifetimeLayer) goes by its own: see
    /// [`with_clock`](crate::LifetimeLayer::with_clock).
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
        self.inherited_mut().clock = Some(Arc::new(clock));
        self
    }

    /// Does for every route inside what the attribute does for one, `RefreshInfo` included.
    ///
    /// Put it on a `Router`, a nested one or a `MethodRouter`; any other tower service will do as well. Where a route
    /// has an attribute, or a group inside this one a policy, the innermost alone decides.
    ///
    /// A refresh that is due happens when a handler takes its [`RefreshInfo`](crate::RefreshInfo), else when it has answered,
    /// and, where the handler waits for something, not later than 50 milliseconds after the request has come here, or than half of
    /// what the session has left. (On tower-sessions' layer alone it is written when the handler has answered.) A
    /// middleware that takes longer than that, between this layer and an attribute, has both of them decide.
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

    /// Puts the [`RefreshInfo`](crate::RefreshInfo) into the extensions of each response, for middleware further out and
    /// for tests. With tower-sessions' layer alone it is the final one, while what a handler has read is provisional.
    ///
    /// ```
    /// use axum::{Router, extract::Request, middleware::{Next, from_fn}, response::Response};
    /// use session_refresh::{RefreshInfo, RefreshLayer};
    ///
    /// async fn log(request: Request, next: Next) -> Response {
    ///     let response = next.run(request).await;
    ///     if let Some(refresh) = response.extensions().get::<RefreshInfo>() {
    ///         println!("{}: {}", response.status(), refresh.outcome);
    ///     }
    ///     response
    /// }
    ///
    /// let app: Router = Router::new()
    ///     // .route(..)
    ///     .layer(RefreshLayer::new().info_in_response())
    ///     .layer(from_fn(log));
    /// # let _ = app;
    /// ```
    pub fn info_in_response(mut self) -> Self {
        self.inherited_mut().informs_response = true;
        self
    }

    fn inherited_mut(&mut self) -> &mut Inherited {
        Arc::make_mut(&mut self.inherited)
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
    S::Error: Send,
    B: Send + 'static,
    R: From<String> + Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = RefreshFuture<S::Future, S::Response, S::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let own = &self.layer.inherited;
        let inherited = match Inherited::of(request.extensions()) {
            Some(outer) => Arc::new(own.within(outer)),
            None => Arc::clone(own),
        };
        request.extensions_mut().insert(inherited);
        let inner = if let Some(policy) = self.layer.policy {
            // The service that is ready, not its clone.
            let clone = self.inner.clone();
            let ready = std::mem::replace(&mut self.inner, clone);
            Inner::Group {
                inner: Box::pin(group(ready, policy, request)),
            }
        } else {
            Inner::Route {
                inner: self.inner.call(request),
            }
        };
        RefreshFuture { inner }
    }
}

/// Does for a service what the attribute does for a handler.
async fn group<S, B, R>(
    mut inner: S,
    policy: Policy,
    request: Request<B>,
) -> Result<Response<R>, S::Error>
where
    S: Service<Request<B>, Response = Response<R>>,
    R: From<String>,
{
    let (mut parts, body) = request.into_parts();
    let (group, patience) = match GroupRefresh::begin(&mut parts, &policy).await {
        Ok(begun) => begun,
        Err(misuse) => return Ok(misuse.into_response()),
    };
    let wait = match patience {
        Patience::Settled => {
            let response = inner.call(Request::from_parts(parts, body)).await?;
            return Ok(group.finish(response).await);
        }
        Patience::AtMost(wait) => Some(wait),
        Patience::UntilAnswered => None,
    };
    let own = parts.clone();
    let answer = inner.call(Request::from_parts(parts, body));
    let response = refreshing(answer, &group, own, wait).await?;
    Ok(group.finish(response).await)
}

/// Waits for the answer, and has the group refresh beside it: after `wait`, or when the answer is there.
async fn refreshing<F: Future>(
    answer: F,
    group: &GroupRefresh,
    mut parts: Parts,
    wait: Option<Duration>,
) -> F::Output {
    let is_answered = AtomicBool::new(false);
    let mut answer = pin!(answer);
    let mut refresh = pin!(async {
        let mut waiting = pin!(wait.map(tokio::time::sleep));
        poll_fn(|cx| match waiting.as_mut().as_pin_mut() {
            _ if is_answered.load(Ordering::Relaxed) => Poll::Ready(()),
            Some(waiting) => waiting.poll(cx),
            None => Poll::Pending,
        })
        .await;
        group.settle(&mut parts).await;
    });
    let mut is_refreshed = false;
    let answer = poll_fn(|cx| {
        let answer = answer.as_mut().poll(cx);
        if answer.is_pending() && !is_refreshed {
            is_refreshed = refresh.as_mut().poll(cx).is_ready();
        }
        answer
    })
    .await;
    is_answered.store(true, Ordering::Relaxed);
    if !is_refreshed {
        refresh.await;
    }
    answer
}

pin_project! {
    /// The future of [`RefreshService`].
    pub struct RefreshFuture<F, R, E> {
        #[pin]
        inner: Inner<F, R, E>,
    }
}

pin_project! {
    #[project = Projected]
    enum Inner<F, R, E> {
        /// The routes inherit from the layer.
        Route {
            #[pin]
            inner: F,
        },
        /// The layer has a policy.
        Group { inner: BoxFuture<R, E> },
    }
}

type BoxFuture<R, E> = Pin<Box<dyn Future<Output = Result<R, E>> + Send>>;

impl<F, R, E> Future for RefreshFuture<F, R, E>
where
    F: Future<Output = Result<R, E>>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().inner.project() {
            Projected::Route { inner } => inner.poll(cx),
            Projected::Group { inner } => inner.as_mut().poll(cx),
        }
    }
}

impl<F, R, E> fmt::Debug for RefreshFuture<F, R, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RefreshFuture").finish_non_exhaustive()
    }
}
