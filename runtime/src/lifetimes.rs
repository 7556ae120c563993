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
    cache_headers, events,
    lifetime::Settings,
    request::Handle,
    session::Release,
    spared_cookies::SparedCookies,
    store::{
        Common, Handled, IntoTouch, ReleasedStore, RequestSession, RequestStore, StoreOf, Touch,
    },
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
/// # #[cfg(all(feature = "axum-login-0_18", feature = "memory-store"))] {
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
    pub fn new<L, Way>(store: impl IntoTouch<Way, Store = S>, make: F) -> Self
    where
        F: Fn(RequestStore<S, R>) -> L,
    {
        let store = store.into_touch();
        store.is_in_lifetime_layer();
        let mut common = Common::default();
        common.settings.latest = Some(store.latest_expiry().into());
        Self {
            store: Arc::new(ReleasedStore::new(store)),
            common: Arc::new(common),
            make: Arc::new(make),
        }
    }
}

impl<S, R, F> LifetimeLayer<S, R, F> {
    /// How long a refresh may keep a request waiting for the store, to load a session ahead and to touch it. Default: 2
    /// seconds each.
    ///
    /// A touch that fails or takes longer is logged, the page is served without it, and a later request tries again. Its query
    /// runs to its end: set the store's own limits as well. At most four touches are under way at once. When touches of
    /// several sessions keep failing, one request in a second tries, then one in two, in four and so on up to a minute, until
    /// one succeeds: an outage does not cost each request the limit. See the guide
    /// [`operating`](crate::guide::operating#when-the-store-is-down).
    pub fn with_touch_limit(mut self, limit: Duration) -> Self {
        Arc::make_mut(&mut self.common).attempts.set_limit(limit);
        self
    }

    /// Ends each session this long after it was created, however active its user is: the absolute timeout of OWASP's Session
    /// Management Cheat Sheet and of ASVS 5, 7.3.2. Default: none.
    ///
    /// No write carries a session past it, and none that is past it is loaded, so that a limit which a deployment lowers
    /// holds at once. It counts from the session's creation, also after its id was renewed by `cycle_id`, and starts again by
    /// [`SessionLifetime::restart`](crate::SessionLifetime::restart), at login. A session from before the limit counts from
    /// its next request to a route that refreshes, or write.
    ///
    /// ```
    /// # #[cfg(feature = "memory-store")] {
    /// # use session_refresh::LifetimeLayer;
    /// # use time::Duration;
    /// # use tower_sessions::{Expiry, MemoryStore, SessionManagerLayer};
    /// let sessions = LifetimeLayer::new(MemoryStore::default(), |store| {
    ///     SessionManagerLayer::new(store).with_expiry(Expiry::OnInactivity(Duration::hours(1)))
    /// })
    /// .with_max_lifetime(Duration::hours(24));
    /// # let _: axum::Router = axum::Router::new().layer(sessions); }
    /// ```
    ///
    /// # Panics
    /// If it is shorter than a millisecond.
    pub fn with_max_lifetime(mut self, max_lifetime: time::Duration) -> Self {
        self.settings_mut().max_lifetime = Some(positive(max_lifetime));
        self
    }

    /// Ends each session after this time without activity, where that is to be another than tower-sessions' expiry, which
    /// then is the cookie's alone. A session whose own expiry the application has set keeps that. Default: tower-sessions'
    /// expiry, two weeks if it sets none or `Expiry::OnSessionEnd`.
    ///
    /// With `Expiry::OnSessionEnd`, a cookie that goes when the browser is closed, it is the only way to say when the server
    /// forgets the session.
    ///
    /// # Panics
    /// If it is shorter than a millisecond.
    pub fn with_idle(mut self, idle: time::Duration) -> Self {
        self.settings_mut().idle = Some(positive(idle));
        self
    }

    /// Gives cookies that have a `Max-Age` this one, whenever they are sent. Default: tower-sessions'
    /// expiry, or the session's own, and no longer than the session may live.
    ///
    /// A cookie that outlives its session does no harm: the store decides. One that goes first logs an active user out, as
    /// it does where responses with a new one are lost on their way: see the guide
    /// [`lifetimes`](crate::guide::lifetimes#the-cookies-age). Browsers cut it at 400 days (RFC 6265bis).
    ///
    /// A cookie without `Max-Age` (`Expiry::OnSessionEnd`) stays so, and one of a session with a fixed end
    /// (`Expiry::AtDateTime`) goes when the session does.
    ///
    /// # Panics
    /// If it is shorter than a millisecond.
    pub fn with_cookie_age(mut self, cookie_age: time::Duration) -> Self {
        self.settings_mut().cookie_age = Some(positive(cookie_age));
        self
    }

    fn settings_mut(&mut self) -> &mut Settings {
        &mut Arc::make_mut(&mut self.common).settings
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

#[track_caller]
fn positive(duration: time::Duration) -> time::Duration {
    assert!(
        duration.whole_milliseconds() > 0,
        "a session's time must be at least a millisecond"
    );
    duration
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
            request: Finish(handle),
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
        request: Finish,
    }
}

/// Lets go of the session when tower-sessions' layer has answered, or is dropped.
struct Finish(Arc<RequestSession>);

impl Drop for Finish {
    fn drop(&mut self) {
        self.0.finish();
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
        let spared = this.request.0.finish();
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

/// The answer waits for the store.
struct LastLook<A> {
    /// Whether the cookie is to be sent again.
    sends_cookie: BoxFuture<bool>,
    answer: Response<A>,
}

type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

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
            let (sends_cookie, look) = visit.map_or((false, None), |visit| visit.ask(&answer));
            let Some(sends_cookie) = look else {
                return Poll::Ready(Ok(Visit::end(this.visit, answer, sends_cookie)));
            };
            *this.last_look = Some(LastLook {
                sends_cookie,
                answer,
            });
        }
        let Some(looking) = this.last_look else {
            panic!("a future is not polled after it is ready");
        };
        let sends_cookie = ready!(looking.sends_cookie.as_mut().poll(cx));
        let LastLook { answer, .. } = this.last_look.take().expect("it was there just now");
        Poll::Ready(Ok(Visit::end(this.visit, answer, sends_cookie)))
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
        !session.is_modified() && (self.has_waited || request.may_have_ended(session))
    }

    /// Whether the cookie is to be sent again with this response, and what the store has to be asked before.
    ///
    /// It is not sent with a response that a shared cache may keep. With a server error, tower-sessions sends none.
    fn ask<A>(&self, response: &Response<A>) -> (bool, Option<BoxFuture<bool>>) {
        let Handle { session, request } = &self.handle;
        let Handled {
            is_refreshed,
            has_said,
        } = request.handled(session);
        let sends_cookie = is_refreshed
            && !response.status().is_server_error()
            && !cache_headers::may_be_shared(response.headers(), SystemTime::now());
        let look = if sends_cookie && self.may_have_ended() {
            let Handle { session, request } = self.handle.clone();
            Some(Box::pin(async move { request.is_live(&session).await }) as BoxFuture<bool>)
        } else if has_said && !session.is_modified() {
            // Only a session that is there can keep what was said: a save would create it.
            let Handle { session, request } = self.handle.clone();
            Some(Box::pin(async move {
                if let Err(error) = request.find(&session).await {
                    events::load_failed(error);
                }
                sends_cookie
            }) as BoxFuture<bool>)
        } else {
            None
        };
        (sends_cookie, look)
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
            let settled = request.settle(session);
            if settled.is_refreshed && sends_cookie {
                cache_headers::keep_private(response.headers_mut());
                if !session.is_modified() {
                    request.send_cookie(session);
                }
            }
            if settled.keeps_another {
                session.mark_modified();
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
