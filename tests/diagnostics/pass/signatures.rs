//! Every kind of function that axum routes, and a few that it does not.
#![deny(warnings)]

use std::pin::Pin;

use axum::{
    Json, Router, debug_handler,
    extract::{FromRequest, FromRequestParts, Request, State},
    http::{HeaderMap, Method, StatusCode, Uri, request::Parts},
    response::IntoResponse,
    routing::{get, post},
};
use session_refresh::{RefreshInfo, SessionUser, session_refresh};

#[session_refresh]
async fn no_argument() {}

#[session_refresh()]
async fn one_argument(_: RefreshInfo) -> &'static str {
    ""
}

#[session_refresh]
async fn consumes_body(State(prefix): State<String>, mut body: String) -> String {
    body.push_str(&prefix);
    body
}

#[session_refresh]
async fn consumes_body_first(Json((mut a, b)): Json<(i32, i32)>) -> impl IntoResponse {
    a += b;
    a.to_string()
}

#[session_refresh]
async fn takes_request(request: Request) -> Result<String, StatusCode> {
    let host = request.uri().host().ok_or(StatusCode::IM_A_TEAPOT)?;
    Ok(host.to_owned())
}

#[session_refresh]
fn returns_future(method: Method) -> impl Future<Output = String> {
    async move { method.to_string() }
}

#[session_refresh]
fn returns_boxed_future() -> Pin<Box<dyn Future<Output = &'static str> + Send>> {
    Box::pin(async { "" })
}

#[session_refresh(skip_staff)]
async fn generic<'a, 'b: 'a, A: FromRequestParts<()>, B, const N: usize>(
    _: A,
    b: B,
) -> Result<[u8; N], B>
where
    A: Send + 'a,
    B: IntoResponse + FromRequest<()> + 'b,
    [u8; N]: Sized,
{
    if N > 1 { Err(b) } else { Ok([0; N]) }
}

/// A parameter that no argument names, of which nobody said that it lives long.
#[session_refresh]
async fn unnamed<T: Default + ToString>() -> String {
    T::default().to_string()
}

#[session_refresh(interval = time::Duration::hours(N))]
async fn interval_by_parameter<const N: i64>() {}

/// axum can't route it: nothing says what the type is. But it compiles as it does without the attribute.
#[session_refresh]
#[allow(dead_code)]
async fn impl_trait(_: impl FromRequestParts<()>, _: impl Sized) {}

/// Likewise.
#[session_refresh]
#[allow(dead_code)]
async fn borrows<'a>(uri: &'a Uri, _: std::borrow::Cow<'a, str>, _: &Method) -> String
where
    &'a str: Sized,
{
    uri.to_string()
}

#[session_refresh]
#[allow(clippy::too_many_arguments)]
async fn sixteen(
    _: Method,
    _: Method,
    _: Method,
    _: Method,
    _: Method,
    _: Method,
    _: Method,
    _: Method,
    _: Method,
    _: Method,
    _: Method,
    _: Method,
    _: Method,
    _: HeaderMap,
    _: RefreshInfo,
    _: String,
) {
}

#[debug_handler]
#[session_refresh]
async fn debug_above(_: Method) {}

#[session_refresh]
#[debug_handler]
async fn debug_below() {}

#[derive(Clone)]
struct AppState;

struct CurrentUser;

impl SessionUser for CurrentUser {}

impl FromRequestParts<AppState> for CurrentUser {
    type Rejection = StatusCode;

    async fn from_request_parts(_: &mut Parts, _: &AppState) -> Result<Self, StatusCode> {
        Ok(Self)
    }
}

/// What state `#[debug_handler]` guesses is nothing to the user.
#[session_refresh(user = CurrentUser)]
#[debug_handler]
async fn debug_below_guesses() {}

#[session_refresh(user = CurrentUser)]
#[debug_handler(state = AppState)]
async fn debug_below_knows(_: State<AppState>) {}

#[tracing::instrument]
#[session_refresh]
async fn instrument_above() {}

#[session_refresh]
#[tracing::instrument(ret)]
async fn instrument_below(_: Method) -> String {
    String::new()
}

#[session_refresh]
async fn r#type(r#mod: Uri) -> String {
    r#mod.to_string()
}

/// Each of them goes to a router.
pub fn they_are_handlers() {
    #[session_refresh(interval = "1h")]
    async fn local(_: RefreshInfo) {}

    let _: Router = Router::new()
        .route("/0", get(no_argument))
        .route("/1", get(one_argument))
        .route("/2", post(consumes_body_first))
        .route("/3", get(takes_request))
        .route("/4", get(returns_future))
        .route("/5", get(returns_boxed_future))
        .route("/6", get(generic::<RefreshInfo, String, 1>))
        .route("/7", get(unnamed::<u8>))
        .route("/8", get(interval_by_parameter::<5>))
        .route("/9", get(sixteen))
        .route("/10", get(debug_above))
        .route("/11", get(debug_below))
        .route("/12", get(instrument_above))
        .route("/13", get(instrument_below))
        .route("/14", get(r#type))
        .route("/15", get(local))
        .merge(
            Router::new()
                .route("/16", get(debug_below_guesses))
                .route("/17", get(debug_below_knows))
                .with_state(AppState),
        )
        .nest(
            "/state",
            Router::new()
                .route("/", post(consumes_body))
                .with_state(String::new()),
        );
}
