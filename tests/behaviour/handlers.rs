//! Every kind of function that axum routes can be annotated, and says `refreshed` over HTTP.

use axum::{
    Json, Router, debug_handler,
    extract::{Path, Query, State},
    response::{Html, IntoResponse},
    routing::{get, post},
};
use http::{HeaderMap, Method, StatusCode, Uri};
use session_refresh::{Outcome, RefreshInfo, session_refresh};
use session_refresh_tests::{Server, login_routes};
use tower_sessions::{MemoryStore, Session, SessionManagerLayer};

#[session_refresh]
async fn no_arguments() -> &'static str {
    "none"
}

/// A documented handler.
#[session_refresh(interval = "24h")]
pub(crate) async fn info_first(refresh: RefreshInfo) -> String {
    assert!(refresh.refreshed && refresh.outcome == Outcome::Refreshed);
    refresh.outcome.to_string()
}

#[session_refresh(interval = 3600)]
async fn consumes_body(body: String) -> String {
    body
}

#[session_refresh(interval = time::Duration::HOUR)]
async fn patterns(Json((mut a, b)): Json<(i32, i32)>) -> impl IntoResponse {
    a += b;
    a.to_string()
}

#[session_refresh]
async fn results(uri: Uri) -> Result<Html<String>, StatusCode> {
    let port: u16 = uri
        .path()
        .trim_start_matches("/results/")
        .parse()
        .map_err(|_| StatusCode::IM_A_TEAPOT)?;
    Ok(Html(port.to_string()))
}

trait Greeting: Send + 'static {
    const TEXT: &'static str;
}
struct English;
impl Greeting for English {
    const TEXT: &'static str = "hello";
}

#[session_refresh]
async fn generic<G, const N: usize>(_: Method) -> String
where
    G: Greeting,
{
    G::TEXT.repeat(N)
}

#[session_refresh]
#[allow(clippy::manual_async_fn)]
fn returns_future(method: Method) -> impl Future<Output = String> {
    async move { method.to_string() }
}

#[session_refresh]
fn returns_boxed_future() -> std::pin::Pin<Box<dyn Future<Output = &'static str> + Send>> {
    Box::pin(async { "boxed" })
}

#[debug_handler]
#[session_refresh]
async fn debug_above(_: Method, refresh: RefreshInfo) -> String {
    refresh.outcome.to_string()
}

#[session_refresh]
#[debug_handler]
async fn debug_below(_: Method, refresh: RefreshInfo) -> String {
    refresh.outcome.to_string()
}

#[tracing::instrument(skip_all)]
#[session_refresh]
async fn instrument_above(_: Method, refresh: RefreshInfo) -> String {
    refresh.outcome.to_string()
}

#[session_refresh]
#[tracing::instrument(skip_all, ret)]
async fn instrument_below(_: Method, refresh: RefreshInfo) -> String {
    refresh.outcome.to_string()
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
    _: Uri,
    _: HeaderMap,
    Query(_query): Query<std::collections::HashMap<String, String>>,
    _: Session,
    refresh: RefreshInfo,
    body: String,
) -> String {
    format!("{}{body}", refresh.outcome)
}

#[session_refresh]
async fn r#type(State(state): State<&'static str>) -> &'static str {
    state
}

mod elsewhere {
    use session_refresh::session_refresh;

    #[session_refresh(interval = "1day 2h")]
    pub async fn no_arguments() -> &'static str {
        "elsewhere"
    }
}

/// Whatever a user's module calls its own things.
mod shadowed {
    #![allow(dead_code)]
    pub struct Result;
    pub struct Option;
    pub struct Send;
    pub struct Future;
    pub struct Response;
    pub struct String;
    pub struct Policy;
    pub struct Some;
    pub struct Ok;
    pub mod core {}
    pub mod std {}
    pub fn guard() {}
    pub const FIRST: u8 = 0;

    use session_refresh::{RefreshInfo, session_refresh};

    #[session_refresh(interval = "1h", skip_unauthenticated = false, skip_paths("/x/"))]
    pub async fn handler(first: RefreshInfo, guard: http::Method) -> &'static str {
        let _ = guard;
        first.outcome.as_str()
    }
}

mod renamed {
    pub use session_refresh as refresh;

    #[refresh::session_refresh(crate = crate::handlers::renamed::refresh)]
    pub async fn handler() -> &'static str {
        "renamed"
    }
}

#[tokio::test]
async fn every_kind_of_handler_refreshes() {
    let stateful = Router::new()
        .route("/state", get(r#type))
        .with_state("state");
    let app = Router::new()
        .route("/none", get(no_arguments))
        .route("/info", get(info_first))
        .route("/body", post(consumes_body))
        .route("/results/{port}", get(results))
        .route("/generic", get(generic::<English, 2>))
        .route("/future", get(returns_future))
        .route("/boxed", get(returns_boxed_future))
        .route("/debug_above", get(debug_above))
        .route("/debug_below", get(debug_below))
        .route("/instrument_above", get(instrument_above))
        .route("/instrument_below", get(instrument_below))
        .route("/sixteen", post(sixteen))
        .route("/elsewhere", get(elsewhere::no_arguments))
        .route("/shadowed", get(shadowed::handler))
        .route("/renamed", get(renamed::handler))
        .route("/patterns", post(patterns))
        .route("/inner/{id}", get(|Path(id): Path<String>| async { id }))
        .nest("/nested", stateful)
        .merge(login_routes())
        .layer(SessionManagerLayer::new(MemoryStore::default()).with_secure(false));
    let server = Server::start(app).await;

    for (path, body, expected) in [
        ("/none", None, "none"),
        ("/info", None, "refreshed"),
        ("/body", Some("body"), "body"),
        ("/results/80", None, "80"),
        ("/generic", None, "hellohello"),
        ("/future", None, "GET"),
        ("/boxed", None, "boxed"),
        ("/debug_above", None, "refreshed"),
        ("/debug_below", None, "refreshed"),
        ("/instrument_above", None, "refreshed"),
        ("/instrument_below", None, "refreshed"),
        ("/sixteen", Some("!"), "refreshed!"),
        ("/elsewhere", None, "elsewhere"),
        ("/shadowed", None, "refreshed"),
        ("/renamed", None, "renamed"),
        ("/nested/state", None, "state"),
    ] {
        let client = server.client();
        client.post("/login/user").await;
        let answer = match body {
            None => client.get(path).await,
            Some(body) => client.post_body(path, body).await,
        };
        assert_eq!(
            (answer.status, answer.text.as_str()),
            (StatusCode::OK, expected),
            "{path}"
        );
        assert_eq!(answer.outcome(), "refreshed", "{path}");
        assert!(answer.set_cookie().contains("id="), "{path}");
    }

    // A rejected extractor's answer counts, as a handler's own 4xx does.
    let client = server.client();
    client.post("/login/user").await;
    let rejected = client.post_body("/patterns", "no json").await;
    assert!(rejected.status.is_client_error());
    assert_eq!(rejected.outcome(), "refreshed");
    let client = server.client();
    client.post("/login/user").await;
    let answer = client.get("/results/none").await;
    assert_eq!(
        (answer.status, answer.outcome()),
        (StatusCode::IM_A_TEAPOT, "refreshed")
    );
}
