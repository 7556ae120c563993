//! axum's side: the extractor that decides, and the answer as a handler's argument.

use std::{
    fmt,
    marker::PhantomData,
    pin::Pin,
    task::{Context, Poll, ready},
};

use axum::{
    extract::{FromRequest, FromRequestParts, Request},
    response::{IntoResponse, Response},
};
use http::request::Parts;
use pin_project_lite::pin_project;

use crate::{
    decide::{self, Decision, Misuse},
    outcome::RefreshInfo,
    policy::{Policy, RefreshPolicy},
    user::UserSource,
};

/// The first argument of an annotated handler: decides by policy `P`, then extracts `T`.
///
/// It extracts wherever `T` does, from a request's head or from the whole of it, and rejects as `T` does. The attribute
/// writes it; without the attribute, [`into_parts`](Self::into_parts) gives what the handler works with and the
/// [`Guard`] that must see its answer.
///
/// ```
/// use axum::response::Response;
/// use session_refresh::{FromLayer, Guarded, Policy, RefreshInfo, RefreshPolicy};
///
/// struct Hourly;
///
/// impl RefreshPolicy for Hourly {
///     type User = FromLayer;
///     const POLICY: Policy = Policy::every(time::Duration::hours(1));
/// }
///
/// async fn handler(guarded: Guarded<Hourly, RefreshInfo>) -> Response {
///     let (guard, refresh) = guarded.into_parts();
///     guard.watch(async move { format!("{refresh:?}") }).await
/// }
/// # let _: axum::Router = axum::Router::new().route("/", axum::routing::get(handler));
/// ```
pub struct Guarded<P, T> {
    guard: Guard,
    inner: T,
    policy: PhantomData<fn() -> P>,
}

impl<P, T> Guarded<P, T> {
    /// What commits the decision, and the extracted value.
    pub fn into_parts(self) -> (Guard, T) {
        (self.guard, self.inner)
    }

    fn new((guard, inner): (Guard, T)) -> Self {
        Self {
            guard,
            inner,
            policy: PhantomData,
        }
    }
}

impl<P, T: fmt::Debug> fmt::Debug for Guarded<P, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guarded")
            .field("guard", &self.guard)
            .field("inner", &self.inner)
            .finish_non_exhaustive()
    }
}

/// So that an annotated handler's first argument may be a typed path.
#[cfg(feature = "axum-extra")]
#[cfg_attr(docsrs, doc(cfg(feature = "axum-extra")))]
impl<P, T: axum_extra::routing::TypedPath> axum_extra::routing::TypedPath for Guarded<P, T> {
    const PATH: &'static str = T::PATH;

    fn to_uri(&self) -> http::Uri {
        self.inner.to_uri()
    }
}

#[cfg(feature = "axum-extra")]
#[cfg_attr(docsrs, doc(cfg(feature = "axum-extra")))]
impl<P, T: fmt::Display> fmt::Display for Guarded<P, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

/// A decision that is waiting for the handler's answer. Dropped without [`watch`](Self::watch), it does nothing.
#[derive(Debug)]
#[must_use = "a refresh happens only if the guard sees the answer"]
pub struct Guard(Decision);

impl Guard {
    /// What the handler is told.
    #[must_use]
    pub fn info(&self) -> &RefreshInfo {
        &self.0.info
    }

    /// Runs the handler, refreshes the session if that was decided, unless the answer or the session forbids it, and
    /// puts the final [`RefreshInfo`] into the response's extensions.
    pub fn watch<F>(self, handler: F) -> Watched<F> {
        Watched {
            handler: Some(handler),
            ending: Ending::Undecided(self.0),
        }
    }
}

pin_project! {
    /// The future of [`Guard::watch`], if the handler is one that answers with a response.
    #[must_use = "futures do nothing unless awaited"]
    pub struct Watched<F> {
        // Dropped before the refresh, with whatever it holds.
        #[pin]
        handler: Option<F>,
        ending: Ending,
    }
}

impl<F> Future for Watched<F>
where
    F: Future,
    F::Output: IntoResponse,
{
    type Output = Response;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Response> {
        let mut this = self.project();
        let mut answer = None;
        if let Some(handler) = this.handler.as_mut().as_pin_mut() {
            answer = Some(ready!(handler.poll(cx)).into_response());
            this.handler.set(None);
        }
        this.ending.poll(answer, cx)
    }
}

impl<F> fmt::Debug for Watched<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watched").finish_non_exhaustive()
    }
}

/// What comes after the handler. Its code is there once, not in each handler.
enum Ending {
    Undecided(Decision),
    /// Boxed, since most requests never come here.
    Refreshing(Pin<Box<dyn Future<Output = Response> + Send>>),
    Over,
}

impl Ending {
    #[inline(never)]
    fn poll(&mut self, answer: Option<Response>, cx: &mut Context<'_>) -> Poll<Response> {
        if let Some(answer) = answer
            && let Self::Undecided(decision) = std::mem::replace(self, Self::Over)
        {
            if decision.is_settled() {
                return Poll::Ready(decision.tell(answer));
            }
            *self = Self::Refreshing(Box::pin(decision.commit(answer)));
        }
        let Self::Refreshing(refresh) = self else {
            panic!("a future is not polled after it is ready");
        };
        let response = ready!(refresh.as_mut().poll(cx));
        *self = Self::Over;
        Poll::Ready(response)
    }
}

/// Compiled once, and out of the way of every handler.
#[cold]
#[inline(never)]
fn rejection(misuse: Misuse) -> Response {
    misuse.into_response()
}

/// Decides, then extracts. It does not know the policy's type, so that routes share it.
async fn guarded_parts<U, S, T>(
    parts: &mut Parts,
    state: &S,
    policy: &'static Policy,
) -> Result<(Guard, T), Response>
where
    S: Sync,
    U: UserSource<S>,
    T: FromRequestParts<S>,
{
    let decision = decide::decide::<U, S>(parts, state, policy).await;
    let guard = Guard(decision.map_err(rejection)?);
    match T::from_request_parts(parts, state).await {
        Ok(inner) => Ok((guard, inner)),
        Err(rejection) => Err(rejection.into_response()),
    }
}

/// The same for what is extracted from the whole request.
async fn guarded_request<U, S, T>(
    request: Request,
    state: &S,
    policy: &'static Policy,
) -> Result<(Guard, T), Response>
where
    S: Sync,
    U: UserSource<S>,
    T: FromRequest<S>,
{
    let (mut parts, body) = request.into_parts();
    let decision = decide::decide::<U, S>(&mut parts, state, policy).await;
    let guard = Guard(decision.map_err(rejection)?);
    match T::from_request(Request::from_parts(parts, body), state).await {
        Ok(inner) => Ok((guard, inner)),
        Err(rejection) => Err(rejection.into_response()),
    }
}

pin_project! {
    /// An extraction that has got its policy's type back.
    struct Under<P, F> {
        #[pin]
        extraction: F,
        policy: PhantomData<fn() -> P>,
    }
}

impl<P, F> Under<P, F> {
    fn new(extraction: F) -> Self {
        Self {
            extraction,
            policy: PhantomData,
        }
    }
}

impl<P, T, F> Future for Under<P, F>
where
    F: Future<Output = Result<(Guard, T), Response>>,
{
    type Output = Result<Guarded<P, T>, Response>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.project().extraction.poll(cx).map_ok(Guarded::new)
    }
}

impl<S, P, T> FromRequestParts<S> for Guarded<P, T>
where
    S: Send + Sync,
    P: RefreshPolicy,
    P::User: UserSource<S>,
    T: FromRequestParts<S>,
{
    type Rejection = Response;

    fn from_request_parts(
        parts: &mut Parts,
        state: &S,
    ) -> impl Future<Output = Result<Self, Response>> + Send {
        let policy = const { &P::POLICY };
        Under::new(guarded_parts::<P::User, S, T>(parts, state, policy))
    }
}

impl<S, P, T> FromRequest<S> for Guarded<P, T>
where
    S: Send + Sync,
    P: RefreshPolicy,
    P::User: UserSource<S>,
    T: FromRequest<S>,
{
    type Rejection = Response;

    fn from_request(
        request: Request,
        state: &S,
    ) -> impl Future<Output = Result<Self, Response>> + Send {
        let policy = const { &P::POLICY };
        Under::new(guarded_request::<P::User, S, T>(request, state, policy))
    }
}

impl<S: Sync> FromRequestParts<S> for RefreshInfo {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Response> {
        parts
            .extensions
            .get()
            .cloned()
            .ok_or_else(|| rejection(Misuse::NotAnnotated))
    }
}

#[cfg(all(test, feature = "tower-sessions-0_14"))]
mod tests {
    use std::{
        future::poll_fn,
        pin::pin,
        sync::{
            Arc,
            atomic::{AtomicBool, Ordering},
        },
    };

    use tower_sessions::{MemoryStore, Session};

    use super::*;
    use crate::user::FromLayer;

    struct Daily;

    impl RefreshPolicy for Daily {
        type User = FromLayer;
        const POLICY: Policy = Policy::new();
    }

    /// Tells when it is dropped.
    struct Held(Arc<AtomicBool>);

    impl Drop for Held {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    #[tokio::test]
    async fn what_a_handlers_future_holds_is_free_when_it_has_answered() {
        let (mut parts, ()) = http::Request::new(()).into_parts();
        let session = Session::new(None, Arc::new(MemoryStore::default()), None);
        parts.extensions.insert(session);
        let guarded = Guarded::<Daily, ()>::from_request_parts(&mut parts, &()).await;
        let (guard, ()) = guarded.map_err(|_| "rejected").unwrap().into_parts();

        let free = Arc::new(AtomicBool::new(false));
        let held = Held(Arc::clone(&free));
        let mut watched = pin!(guard.watch(poll_fn(move |_| {
            let _holds = &held;
            Poll::Ready("answer")
        })));
        let response = watched.as_mut().await;
        assert!(free.load(Ordering::Relaxed));
        assert!(response.extensions().get::<RefreshInfo>().is_some());
    }
}
