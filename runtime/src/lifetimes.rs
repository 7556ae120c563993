//! `LifetimeLayer`: a store for each request, around it the session's layer, and the cookie on the way out.

use std::{
    fmt,
    marker::PhantomData,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::{Duration, SystemTime},
};

use http::{Request, Response, header::COOKIE};
use pin_project_lite::pin_project;
use time::OffsetDateTime;
use tower::util::{Oneshot, ServiceExt as _};
use tower_cookies::Cookies;
use tower_layer::Layer;
use tower_service::Service;

use crate::{
    cache_headers,
    request::Handle,
    session::Release,
    spared_cookies::SparedCookies,
    store::{Common, IntoTouch, ReleasedStore, RequestSession, RequestStore, StoreOf, Touch},
};

/// Sessions in a store that can touch: a refresh moves a session's expiry and nothing else.
///
/// For each request it makes a [`RequestStore`], the application's store plus what this one request knows of its session,
/// and hands it to the closure, which makes tower-sessions' layer, or axum-login's, around it. A refresh that is due
/// happens before the handler; the cookie is sent again with the response, unless a shared cache may keep that.
///
/// ```
/// # #[cfg(feature = "memory-store")] {
/// use axum::{Router, routing::get};
/// use session_refresh::LifetimeLayer;
/// use time::Duration;
/// use tower_sessions::{Expiry, MemoryStore, SessionManagerLayer};
///
/// let sessions = LifetimeLayer::new(MemoryStore::default(), |store| {
///     SessionManagerLayer::new(store).with_expiry(Expiry::OnInactivity(Duration::days(14)))
/// });
/// let app: Router = Router::new().route("/", get(async || "hello")).layer(sessions);
/// # let _ = app; }
/// ```
///
/// The closure runs for each request. Make outside of it what is made once: above all a key that signs or encrypts
/// cookies, since one that is generated inside is another for each request, and nobody stays logged in. What it moves into
/// the layer, it clones:
///
/// ```
/// # #[cfg(all(feature = "axum-login", feature = "memory-store"))] {
/// use axum_login::AuthManagerLayerBuilder;
/// use session_refresh::LifetimeLayer;
/// use tower_sessions::{MemoryStore, SessionManagerLayer};
/// # #[derive(Clone, Debug)] struct User;
/// # impl axum_login::AuthUser for User {
/// #     type Id = i64;
/// #     fn id(&self) -> i64 { 1 }
/// #     fn session_auth_hash(&self) -> &[u8] { &[] }
/// # }
/// # #[derive(Clone, Debug)] struct Backend;
/// # impl axum_login::AuthnBackend for Backend {
/// #     type User = User; type Credentials = (); type Error = std::convert::Infallible;
/// #     async fn authenticate(&self, _: ()) -> Result<Option<User>, Self::Error> { Ok(None) }
/// #     async fn get_user(&self, _: &i64) -> Result<Option<User>, Self::Error> { Ok(None) }
/// # }
///
/// let backend = Backend; // holds a pool, say
/// let sessions = LifetimeLayer::new(MemoryStore::default(), move |store| {
///     AuthManagerLayerBuilder::new(backend.clone(), SessionManagerLayer::new(store)).build()
/// });
/// # let _: axum::Router = axum::Router::new().layer(sessions); }
/// ```
///
/// Which release of tower-sessions it serves follows from the layer that the closure makes. A touch has a time limit, so
/// tokio's timers are needed, which `#[tokio::main]` enables.
#[must_use]
pub struct LifetimeLayer<S, R, F> {
    store: Arc<ReleasedStore<S, R>>,
    common: Arc<Common>,
    make: Arc<F>,
}

impl<S: Touch, R, F> LifetimeLayer<S, R, F> {
    /// Keeps sessions in `store`, by the layer that `make` makes around what it is given, for each request.
    ///
    /// The store is one that can touch, or tower-sessions' `MemoryStore`; any other in a
    /// [`Serialized`](crate::store::Serialized).
    pub fn new<L>(store: impl IntoTouch<Store = S>, make: F) -> Self
    where
        F: Fn(RequestStore<S, R>) -> L,
    {
        Self {
            store: Arc::new(ReleasedStore::new(store.into_touch())),
            common: Arc::default(),
            make: Arc::new(make),
        }
    }
}

impl<S, R, F> LifetimeLayer<S, R, F> {
    /// How long a refresh may keep a request waiting for the store, to load a session ahead and to touch it. Default: 2
    /// seconds each.
    ///
    /// A touch that fails or takes longer is logged, the page is served without it, and the next request tries again.
    /// After three failures in a row, one request in a second tries, then one in two, in four and so on up to a minute,
    /// until one succeeds: an outage does not cost each request the limit.
    pub fn with_touch_limit(mut self, limit: Duration) -> Self {
        Arc::make_mut(&mut self.common).attempts.set_limit(limit);
        self
    }

    /// Sets the clock, for tests: by it a refresh is due, expiries are written, and a session has ended.
    ///
    /// The store itself goes by the real time, so the clock may only be ahead of that.
    pub fn with_clock(
        mut self,
        clock: impl Fn() -> OffsetDateTime + Send + Sync + 'static,
    ) -> Self {
        Arc::make_mut(&mut self.common).clock = Some(Arc::new(clock));
        self
    }

    /// How many touches have failed or taken too long since the start. Clones of a layer count together.
    #[must_use]
    pub fn failed_touches(&self) -> u64 {
        self.common.attempts.failures()
    }
}

impl<S, R, F, I> Layer<I> for LifetimeLayer<S, R, F> {
    type Service = LifetimeService<S, R, F, I>;

    fn layer(&self, inner: I) -> Self::Service {
        LifetimeService {
            layer: self.clone(),
            inner,
        }
    }
}

/// The service that [`LifetimeLayer`] makes. It is always ready: what is inside gets ready when a request is there.
pub struct LifetimeService<S, R, F, I> {
    layer: LifetimeLayer<S, R, F>,
    inner: I,
}

impl<S, R, F, L, I, B, A> Service<Request<B>> for LifetimeService<S, R, F, I>
where
    S: Touch + StoreOf<R>,
    R: Release,
    F: Fn(RequestStore<S, R>) -> L,
    L: Layer<InnerSide<I, R>>,
    L::Service: Service<Request<B>, Response = Response<A>>,
    I: Clone,
{
    type Response = Response<A>;
    type Error = <L::Service as Service<Request<B>>>::Error;
    type Future = LifetimeFuture<L::Service, Request<B>>;

    /// The service for a request is made, and becomes ready, when the request is there.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (store, handle) = RequestStore::new(&self.layer.store, &self.layer.common);
        let inside = InnerSide {
            inner: self.inner.clone(),
            request: Arc::clone(&handle),
            release: PhantomData,
        };
        let service = (self.layer.make)(store).layer(inside);
        LifetimeFuture {
            inner: service.oneshot(request),
            request: handle,
        }
    }
}

pin_project! {
    /// The future of [`LifetimeService`].
    pub struct LifetimeFuture<S, Q>
    where
        S: Service<Q>,
    {
        #[pin]
        inner: Oneshot<S, Q>,
        request: Arc<RequestSession>,
    }
}

impl<S, Q, A> Future for LifetimeFuture<S, Q>
where
    S: Service<Q, Response = Response<A>>,
{
    type Output = Result<S::Response, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut answer = ready!(this.inner.poll(cx));
        let spared = this.request.finish();
        if let (Some(cookies), Ok(response)) = (spared, &mut answer) {
            cookies.restore(response.headers_mut());
        }
        Poll::Ready(answer)
    }
}

/// Inside of the session's layer: it sees the session before the handler, and the response before the session is saved.
#[allow(missing_debug_implementations, reason = "nobody names it")]
pub struct InnerSide<I, R> {
    inner: I,
    request: Arc<RequestSession>,
    release: PhantomData<fn() -> R>,
}

impl<I, R, B, A> Service<Request<B>> for InnerSide<I, R>
where
    I: Service<Request<B>, Response = Response<A>>,
    R: Release,
{
    type Response = Response<A>;
    type Error = I::Error;
    type Future = InnerFuture<I::Future, A>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let handle = R::session(request.extensions()).map(|session| Handle {
            session,
            request: Arc::clone(&self.request),
        });
        let visit = handle.map(|handle| {
            handle.request.enter(handle.session.clone());
            // A cookie came, and names no session.
            let is_stray = handle.session.id().is_none() && request.headers().contains_key(COOKIE);
            let stray = is_stray
                .then(|| request.extensions().get().cloned())
                .flatten();
            handle.clone().leave_in::<R>(request.extensions_mut());
            Visit {
                handle,
                stray,
                has_waited: false,
            }
        });
        InnerFuture {
            handler: Some(self.inner.call(request)),
            visit,
            last_look: None,
        }
    }
}

pin_project! {
    /// The future of [`InnerSide`].
    #[allow(missing_debug_implementations, reason = "nobody names it")]
    pub struct InnerFuture<F, A> {
        // Dropped when it has answered, with whatever it holds.
        #[pin]
        handler: Option<F>,
        visit: Option<Visit>,
        last_look: Option<LastLook<A>>,
    }
}

/// The answer waits for the store to say whether the session is still there.
struct LastLook<A> {
    is_live: Pin<Box<dyn Future<Output = bool> + Send>>,
    answer: Response<A>,
}

impl<F, A, E> Future for InnerFuture<F, A>
where
    F: Future<Output = Result<Response<A>, E>>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        if let Some(handler) = this.handler.as_mut().as_pin_mut() {
            let Poll::Ready(answer) = handler.poll(cx) else {
                if let Some(visit) = this.visit {
                    visit.handler_waits();
                }
                return Poll::Pending;
            };
            this.handler.set(None);
            let answer = answer?;
            let visit = this.visit.as_ref();
            let sends_cookie = visit.is_some_and(|visit| visit.sends_cookie(&answer));
            let look = visit.filter(|visit| sends_cookie && visit.may_have_ended());
            let Some(is_live) = look.map(Visit::is_live) else {
                return Poll::Ready(Ok(Visit::end(this.visit, answer, sends_cookie)));
            };
            *this.last_look = Some(LastLook { is_live, answer });
        }
        let Some(looking) = this.last_look else {
            panic!("a future is not polled after it is ready");
        };
        let is_live = ready!(looking.is_live.as_mut().poll(cx));
        let LastLook { answer, .. } = this.last_look.take().expect("it was there just now");
        Poll::Ready(Ok(Visit::end(this.visit, answer, is_live)))
    }
}

/// A session that a handler is at work on.
struct Visit {
    handle: Handle,
    /// The client's cookies, if there are some and no session.
    stray: Option<Cookies>,
    /// The handler has waited for something since the session was refreshed. Meanwhile it may have ended.
    has_waited: bool,
}

impl Visit {
    fn handler_waits(&mut self) {
        let Handle { session, request } = &self.handle;
        self.has_waited = self.has_waited || request.is_refreshed(session);
    }

    /// Whether the store is to be asked before the cookie is sent again: after a logout and a login in another tab, the
    /// cookie of the old session would log the user out.
    fn may_have_ended(&self) -> bool {
        let Handle { session, request } = &self.handle;
        !session.is_modified() && (self.has_waited || request.any_has_ended(session))
    }

    fn is_live(&self) -> Pin<Box<dyn Future<Output = bool> + Send>> {
        let Handle { session, request } = self.handle.clone();
        Box::pin(async move { request.is_live(&session).await })
    }

    /// Whether the cookie is to be sent again with this response: not with one that a shared cache may keep. With a
    /// server error, tower-sessions sends none.
    fn sends_cookie<A>(&self, response: &Response<A>) -> bool {
        let Handle { session, request } = &self.handle;
        request.is_refreshed(session)
            && !response.status().is_server_error()
            && !cache_headers::may_be_shared(response.headers(), SystemTime::now())
    }

    /// Has tower-sessions send the cookie of a session that was refreshed and is still there.
    fn end<A>(
        visit: &mut Option<Self>,
        mut response: Response<A>,
        sends_cookie: bool,
    ) -> Response<A> {
        if let Some(mut visit) = visit.take() {
            visit.spare_cookies(&response);
            let Handle { session, request } = &visit.handle;
            if request.settle(session) && sends_cookie {
                cache_headers::keep_private(response.headers_mut());
                if !session.is_modified() {
                    request.send_cookie(session);
                }
            }
        }
        response
    }

    /// Keeps tower-sessions from removing a cookie that the page has not used.
    fn spare_cookies<A>(&mut self, response: &Response<A>) {
        let Handle { session, request } = &self.handle;
        if let Some(cookies) = self.stray.take()
            && session.id().is_none()
            && !session.is_modified()
        {
            request.spare(SparedCookies::new(cookies, response.headers()));
        }
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        self.handle.request.leave();
    }
}

impl<S, R, F> Clone for LifetimeLayer<S, R, F> {
    fn clone(&self) -> Self {
        Self {
            store: Arc::clone(&self.store),
            common: Arc::clone(&self.common),
            make: Arc::clone(&self.make),
        }
    }
}

impl<S, R, F, I: Clone> Clone for LifetimeService<S, R, F, I> {
    fn clone(&self) -> Self {
        Self {
            layer: self.layer.clone(),
            inner: self.inner.clone(),
        }
    }
}

impl<I: Clone, R> Clone for InnerSide<I, R> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            request: Arc::clone(&self.request),
            release: PhantomData,
        }
    }
}

impl<S: fmt::Debug, R, F> fmt::Debug for LifetimeLayer<S, R, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LifetimeLayer")
            .field("store", &self.store.store)
            .field("common", &self.common)
            .finish_non_exhaustive()
    }
}

impl<S: fmt::Debug, R, F, I> fmt::Debug for LifetimeService<S, R, F, I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LifetimeService")
            .field("layer", &self.layer)
            .finish_non_exhaustive()
    }
}

impl<S: Service<Q>, Q> fmt::Debug for LifetimeFuture<S, Q> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LifetimeFuture").finish_non_exhaustive()
    }
}
