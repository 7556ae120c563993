//! axum's side: the extractor that decides, and the answer as a handler's argument.

use std::{
    fmt,
    marker::PhantomData,
    pin::Pin,
    task::{Context, Poll},
};

use axum::{
    extract::{FromRequest, FromRequestParts, Request},
    response::{IntoResponse as _, Response},
};
use http::request::Parts;

use crate::{
    engine::{self, Decision, Misuse},
    info::RefreshInfo,
    policy::RefreshPolicy,
    user::UserSource,
};

/// The first argument of an annotated handler: decides by policy `P`, then extracts `T`.
///
/// It extracts wherever `T` does, from a request's head or from the whole of it, and rejects as `T` does. The attribute
/// writes it; without the attribute, [`into_parts`](Self::into_parts) gives what the handler works with and the
/// [`Guard`] that must see the response.
///
/// ```
/// use axum::response::{IntoResponse, Response};
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
///     guard.commit(format!("{refresh:?}").into_response()).await
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

/// A decision that is waiting for the handler's answer. Dropped without [`commit`](Self::commit), it does nothing.
#[derive(Debug)]
#[must_use = "a refresh happens only if the guard sees the response"]
pub struct Guard(Decision);

impl Guard {
    /// What the handler is told.
    #[must_use]
    pub fn info(&self) -> &RefreshInfo {
        &self.0.info
    }

    /// Refreshes the session if that was decided, unless the response or the session forbids it, and puts the final
    /// [`RefreshInfo`] into the response's extensions.
    pub fn commit(self, response: Response) -> Commit {
        Commit::new(self.0, response)
    }
}

/// The future of [`Guard::commit`]. Its code is there once, not in each handler.
#[must_use = "futures do nothing unless awaited"]
pub struct Commit(Committing);

enum Committing {
    /// Nothing is to be done, and so nothing is allocated for it.
    Nothing(Option<Response>),
    Refresh(Pin<Box<dyn Future<Output = Response> + Send>>),
}

impl Commit {
    #[inline(never)]
    fn new(decision: Decision, response: Response) -> Self {
        Self(if decision.is_settled() {
            Committing::Nothing(Some(decision.tell(response)))
        } else {
            Committing::Refresh(Box::pin(decision.commit(response)))
        })
    }
}

impl Future for Commit {
    type Output = Response;

    #[inline(never)]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Response> {
        match &mut self.0 {
            Committing::Nothing(response) => Poll::Ready(
                response
                    .take()
                    .expect("a future is not polled after it is ready"),
            ),
            Committing::Refresh(refresh) => refresh.as_mut().poll(cx),
        }
    }
}

impl fmt::Debug for Commit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Commit").finish_non_exhaustive()
    }
}

/// Compiled once, and out of the way of every handler.
#[cold]
#[inline(never)]
fn rejection(misuse: Misuse) -> Response {
    misuse.into_response()
}

impl<S, P, T> FromRequestParts<S> for Guarded<P, T>
where
    S: Send + Sync,
    P: RefreshPolicy,
    P::User: UserSource<S>,
    T: FromRequestParts<S>,
{
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Response> {
        let guard = match engine::decide::<P::User, S>(parts, state, &P::POLICY).await {
            Ok(decision) => Guard(decision),
            Err(misuse) => return Err(rejection(misuse)),
        };
        match T::from_request_parts(parts, state).await {
            Ok(inner) => Ok(Self {
                guard,
                inner,
                policy: PhantomData,
            }),
            Err(rejection) => Err(rejection.into_response()),
        }
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

    async fn from_request(request: Request, state: &S) -> Result<Self, Response> {
        let (mut parts, body) = request.into_parts();
        let guard = match engine::decide::<P::User, S>(&mut parts, state, &P::POLICY).await {
            Ok(decision) => Guard(decision),
            Err(misuse) => return Err(rejection(misuse)),
        };
        match T::from_request(Request::from_parts(parts, body), state).await {
            Ok(inner) => Ok(Self {
                guard,
                inner,
                policy: PhantomData,
            }),
            Err(rejection) => Err(rejection.into_response()),
        }
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
