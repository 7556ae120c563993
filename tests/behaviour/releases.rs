//! tower-sessions 0.15, beside 0.14 in one application. `tests/on-0_15` is an application on 0.15 alone.

use axum::{
    Router,
    extract::FromRequestParts,
    http::{StatusCode, request::Parts},
    routing::{get, post},
};
use session_refresh::{
    RefreshInfo, RefreshLayer, SessionUser, session_refresh, store::RefreshStore,
};
use session_refresh_tests::{Server, TestClock};
use time::ext::NumericalDuration as _;
use tower_sessions_0_15 as newer;

struct Member;

impl SessionUser for Member {}

impl<S: Send + Sync> FromRequestParts<S> for Member {
    type Rejection = StatusCode;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, StatusCode> {
        let session = newer::Session::from_request_parts(parts, state)
            .await
            .map_err(|(status, _)| status)?;
        match session.get::<bool>("member").await {
            Ok(Some(true)) => Ok(Self),
            Ok(_) => Err(StatusCode::UNAUTHORIZED),
            Err(_) => Err(StatusCode::INTERNAL_SERVER_ERROR),
        }
    }
}

#[session_refresh(interval = "1h")]
async fn page(refresh: RefreshInfo) -> String {
    refresh.outcome.to_string()
}

async fn log_in(session: newer::Session) {
    session.insert("member", true).await.expect("it is loaded");
}

async fn log_out(session: newer::Session) {
    session.flush().await.expect("it is deleted");
}

/// Sessions of 0.15 in `store`, by `clock`.
fn newer_routes(store: impl newer::SessionStore + Clone, clock: &TestClock) -> Router {
    Router::new()
        .route("/", get(page))
        .route("/login", post(log_in))
        .route("/logout", post(log_out))
        .layer(RefreshLayer::new().user::<Member>().clock(clock.as_fn()))
        .layer(newer::SessionManagerLayer::new(store).with_secure(false))
}

async fn refreshes_once_per_interval(store: impl newer::SessionStore + Clone) {
    let clock = TestClock::default();
    let server = Server::start(newer_routes(store, &clock)).await;
    let client = server.client();
    assert_eq!(client.get("/").await.text, "no_session");
    client.post("/login").await;
    // A plain store learns of the last refresh by refreshing; one that touches, by the session's age.
    clock.advance(90.minutes());
    let answer = client.get("/").await;
    assert_eq!(
        (answer.text.as_str(), answer.outcome()),
        ("refreshed", "refreshed")
    );
    assert!(answer.set_cookie().starts_with("id="), "{answer:?}");
    client.post("/logout").await;
    assert_eq!(client.get("/").await.outcome(), "no_session");
}

#[tokio::test]
async fn a_session_of_the_newer_release_is_refreshed_in_a_plain_store() {
    refreshes_once_per_interval(newer::MemoryStore::default()).await;
}

#[tokio::test]
async fn a_session_of_the_newer_release_is_touched_in_a_store_that_can() {
    refreshes_once_per_interval(RefreshStore::new(newer::MemoryStore::default())).await;
}

#[tokio::test]
async fn an_application_may_have_both_releases_each_on_its_routes() {
    #[session_refresh(interval = "1h", skip_unauthenticated = false)]
    async fn older_page() {}

    async fn visit(session: tower_sessions::Session) {
        session.insert("visits", 1).await.expect("it is loaded");
    }

    let clock = TestClock::default();
    let older = Router::new()
        .route("/older", get(older_page).post(visit))
        .layer(
            tower_sessions::SessionManagerLayer::new(RefreshStore::new(
                tower_sessions::MemoryStore::default(),
            ))
            .with_secure(false)
            .with_name("older"),
        );
    let newer = newer_routes(RefreshStore::new(newer::MemoryStore::default()), &clock);
    let both = older
        .layer(RefreshLayer::new().clock(clock.as_fn()))
        .merge(newer);
    let server = Server::start(both).await;
    let client = server.client();
    client.post("/login").await;
    client.post("/older").await;
    clock.advance(2.hours());
    let older = client.get("/older").await;
    assert_eq!(older.outcome(), "refreshed");
    assert!(older.set_cookie().starts_with("older="), "{older:?}");
    let newer = client.get("/").await;
    assert_eq!(newer.outcome(), "refreshed");
    assert!(newer.set_cookie().starts_with("id="), "{newer:?}");
}
