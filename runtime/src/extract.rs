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
    decide::{self, Decision, GroupRefresh},
    events::Misuse,
    outcome::RefreshInfo,
    policy::{Policy, RefreshPolicy},
    request,
    user::UserSource,
};

/// The first argument of an annotated handler: decides by policy `P`, refreshes if that is due, then extracts `T`.
///
/// It extracts wherever `T` does, from a request's head or from the whole of it, and rejects as `T` does. The attribute
/// writes it. Without the attribute, [`into_parts`](Self::into_parts) gives what the handler works with, and the
/// [`PendingStamp`] that sees its answer.
///
/// ```
/// use axum::response::Response;
/// use session_refresh::{Decided, FromLayer, Policy, RefreshInfo, RefreshPolicy};
///
/// struct Hourly;
///
/// impl RefreshPolicy for Hourly {
///     type User = FromLayer;
///     const POLICY: Policy = Policy::every(time::Duration::hours(1));
/// }
///
/// async fn handler(decided: Decided<Hourly, RefreshInfo>) -> Response {
///     let (stamp, refresh) = decided.into_parts();
///     stamp.after(async move { format!("{refresh:?}") }).await
/// }
/// # let _: axum::Router = axum::Router::new().route("/", axum::routing::get(handler));
/// ```
pub struct Decided<P, T> {
    stamp: PendingStamp,
    inner: T,
    policy: PhantomData<fn() -> P>,
}

impl<P, T> Decided<P, T> {
    /// What is left to do after the handler, and the extracted value.
    pub fn into_parts(self) -> (PendingStamp, T) {
        (self.stamp, self.inner)
    }

    fn new((stamp, inner): (PendingStamp, T)) -> Self {
        Self {
            stamp,
            inner,
            policy: PhantomData,
        }
    }
}

impl<P, T: fmt::Debug> fmt::Debug for Decided<P, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decided")
            .field("stamp", &self.stamp)
            .field("inner", &self.inner)
            .finish_non_exhaustive()
    }
}

/// So that an annotated handler's first argument may be a typed path.
#[cfg(feature = "axum-extra")]
impl<P, T: axum_extra::routing::TypedPath> axum_extra::routing::TypedPath for Decided<P, T> {
    const PATH: &'static str = T::PATH;

    fn to_uri(&self) -> http::Uri {
        self.inner.to_uri()
    }
}

#[cfg(feature = "axum-extra")]
impl<P, T: fmt::Display> fmt::Display for Decided<P, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

/// What is left to do when the handler has answered.
///
/// With tower-sessions' layer alone that is the refresh itself, a stamp in the session. Under a
/// [`LifetimeLayer`](crate::LifetimeLayer) the refresh is done by then. The response's extensions get the final
/// [`RefreshInfo`] where a [`RefreshLayer`](crate::RefreshLayer::info_in_response) asks for it.
#[must_use = "with tower-sessions' layer alone, the refresh happens only after the handler"]
pub struct PendingStamp(Decision);

impl PendingStamp {
    /// What the handler is to know.
    #[must_use]
    pub fn info(&self) -> &RefreshInfo {
        &self.0.info
    }

    /// Runs the handler, and writes the stamp if one is pending, unless the answer or the session forbids it.
    pub fn after<F>(self, handler: F) -> ThenStamp<F> {
        ThenStamp {
            handler: Some(handler),
            step: Step::Handling(self.0),
        }
    }
}

impl fmt::Debug for PendingStamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PendingStamp").field(self.info()).finish()
    }
}

pin_project! {
    /// The future of [`PendingStamp::after`], if the handler is one that answers with a response.
    #[must_use = "futures do nothing unless awaited"]
    pub struct ThenStamp<F> {
        // Dropped before the stamp is written, with whatever it holds.
        #[pin]
        handler: Option<F>,
        step: Step,
    }
}

impl<F> Future for ThenStamp<F>
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
        this.step.poll(answer, cx)
    }
}

impl<F> fmt::Debug for ThenStamp<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ThenStamp").finish_non_exhaustive()
    }
}

/// What comes after the handler. Its code is there once, not in each handler.
enum Step {
    Handling(Decision),
    /// Boxed, since most requests never come here.
    Stamping(Pin<Box<dyn Future<Output = Response> + Send>>),
    Done,
}

impl Step {
    #[inline(never)]
    fn poll(&mut self, answer: Option<Response>, cx: &mut Context<'_>) -> Poll<Response> {
        if let Some(answer) = answer
            && let Self::Handling(decision) = std::mem::replace(self, Self::Done)
        {
            if decision.is_settled() {
                return Poll::Ready(decision.inform(answer));
            }
            *self = Self::Stamping(Box::pin(decision.finish(answer)));
        }
        let Self::Stamping(stamping) = self else {
            panic!("a future is not polled after it is ready");
        };
        let response = ready!(stamping.as_mut().poll(cx));
        *self = Self::Done;
        Poll::Ready(response)
    }
}

/// Compiled once, and out of the way of every handler.
#[cold]
#[inline(never)]
fn rejection(misuse: Misuse) -> Response {
    misuse.into_response()
}

/// Decides, then extracts. It does not know the policy's type, so that routes share it. A request that `T` rejects is
/// activity like any other.
async fn decided_parts<U, S, T>(
    parts: &mut Parts,
    state: &S,
    policy: &'static Policy,
) -> Result<(PendingStamp, T), Response>
where
    S: Sync,
    U: UserSource<S>,
    T: FromRequestParts<S>,
{
    let decision = decide::decide::<U, S>(parts, state, policy).await;
    let decision = decision.map_err(rejection)?;
    let rejection = match T::from_request_parts(parts, state).await {
        Ok(inner) => return Ok((PendingStamp(decision), inner)),
        Err(rejection) => rejection.into_response(),
    };
    Err(decision.finish(rejection).await)
}

/// The same for what is extracted from the whole request.
async fn decided_request<U, S, T>(
    request: Request,
    state: &S,
    policy: &'static Policy,
) -> Result<(PendingStamp, T), Response>
where
    S: Sync,
    U: UserSource<S>,
    T: FromRequest<S>,
{
    let (mut parts, body) = request.into_parts();
    let decision = decide::decide::<U, S>(&mut parts, state, policy).await;
    let decision = decision.map_err(rejection)?;
    let rejection = match T::from_request(Request::from_parts(parts, body), state).await {
        Ok(inner) => return Ok((PendingStamp(decision), inner)),
        Err(rejection) => rejection.into_response(),
    };
    Err(decision.finish(rejection).await)
}

pin_project! {
    /// An extraction that has got its policy's type back.
    struct WithPolicy<P, F> {
        #[pin]
        extraction: F,
        policy: PhantomData<fn() -> P>,
    }
}

impl<P, F> WithPolicy<P, F> {
    fn new(extraction: F) -> Self {
        Self {
            extraction,
            policy: PhantomData,
        }
    }
}

impl<P, T, F> Future for WithPolicy<P, F>
where
    F: Future<Output = Result<(PendingStamp, T), Response>>,
{
    type Output = Result<Decided<P, T>, Response>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.project().extraction.poll(cx).map_ok(Decided::new)
    }
}

impl<S, P, T> FromRequestParts<S> for Decided<P, T>
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
        WithPolicy::new(decided_parts::<P::User, S, T>(parts, state, policy))
    }
}

impl<S, P, T> FromRequest<S> for Decided<P, T>
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
        WithPolicy::new(decided_request::<P::User, S, T>(request, state, policy))
    }
}

impl<S: Sync> FromRequestParts<S> for RefreshInfo {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Response> {
        if let Some(info) = request::info(&parts.extensions) {
            return Ok(info);
        }
        let group = parts.extensions.get::<GroupRefresh>().cloned();
        let settled = match group {
            Some(group) => group.settle(parts).await,
            None => None,
        };
        settled.ok_or_else(|| rejection(Misuse::NotAnnotated))
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

    /// Sets its flag when it is dropped.
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
        parts.extensions.insert(Arc::new(request::Inherited {
            informs_response: true,
            ..request::Inherited::default()
        }));
        let decided = Decided::<Daily, ()>::from_request_parts(&mut parts, &()).await;
        let (stamp, ()) = decided.map_err(|_| "rejected").unwrap().into_parts();

        let free = Arc::new(AtomicBool::new(false));
        let held = Held(Arc::clone(&free));
        let mut response = pin!(stamp.after(poll_fn(move |_| {
            let _holds = &held;
            Poll::Ready("answer")
        })));
        let response = response.as_mut().await;
        assert!(free.load(Ordering::Relaxed));
        assert!(response.extensions().get::<RefreshInfo>().is_some());
    }
}
