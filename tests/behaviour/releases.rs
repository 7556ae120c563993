//! tower-sessions 0.15, beside 0.14 in one application. `tests/on-0_15` is an application on 0.15 alone.

use axum::{
    Router,
    extract::FromRequestParts,
    http::{StatusCode, request::Parts},
    routing::{get, post},
};
use session_refresh::{
    LifetimeLayer, RefreshInfo, RefreshLayer, SessionLifetime, SessionUser, session_refresh,
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

/// Routes for sessions of 0.15, by `clock`.
fn newer_routes(clock: &TestClock) -> Router {
    Router::new()
        .route("/", get(page))
        .route("/login", post(log_in))
        .route("/logout", post(log_out))
        .layer(RefreshLayer::new().user::<Member>().clock(clock.as_fn()))
}

fn newer_sessions<S: newer::SessionStore>(store: S) -> newer::SessionManagerLayer<S> {
    newer::SessionManagerLayer::new(store).with_secure(false)
}

/// The routes under tower-sessions' layer alone, or under ours.
fn newer_app(is_owned: bool, clock: &TestClock) -> Router {
    let routes = newer_routes(clock);
    let store = newer::MemoryStore::default();
    if is_owned {
        let sessions = LifetimeLayer::new(store, newer_sessions);
        routes.layer(sessions.with_clock(clock.as_fn()))
    } else {
        routes.layer(newer_sessions(store))
    }
}

#[tokio::test]
async fn a_session_of_the_newer_release_is_refreshed_once_per_interval() {
    for is_owned in [true, false] {
        let clock = TestClock::default();
        let server = Server::start(newer_app(is_owned, &clock)).await;
        let client = server.client();
        assert_eq!(client.get("/").await.text, "no_session");
        client.post("/login").await;
        // With a stamp a refresh is due that was never recorded, with a touch, one by the session's age.
        clock.advance(90.minutes());
        for outcome in ["refreshed", "not_due"] {
            let answer = client.get("/").await;
            assert_eq!((answer.text.as_str(), answer.outcome()), (outcome, outcome));
            assert_eq!(!answer.set_cookie().is_empty(), outcome == "refreshed");
        }
        client.post("/logout").await;
        assert_eq!(client.get("/").await.outcome(), "no_session");
    }
}

#[tokio::test]
async fn an_application_may_have_both_releases_each_on_its_routes() {
    #[session_refresh(interval = "1h", skip_unauthenticated = false)]
    async fn older_page() {}

    async fn visit(session: tower_sessions::Session) {
        session.insert("visits", 1).await.expect("it is loaded");
    }

    let clock = TestClock::default();
    let sessions = LifetimeLayer::new(tower_sessions::MemoryStore::default(), |store| {
        tower_sessions::SessionManagerLayer::new(store)
            .with_secure(false)
            .with_name("older")
    });
    let older = Router::new()
        .route("/older", get(older_page).post(visit))
        .layer(sessions.with_clock(clock.as_fn()));
    let server = Server::start(older.merge(newer_app(true, &clock))).await;
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

#[tokio::test]
async fn a_session_of_the_newer_release_keeps_a_lifetime_of_its_own() {
    async fn remember(session: newer::Session, lifetime: SessionLifetime) {
        session.insert("member", true).await.expect("it is loaded");
        session.set_expiry(Some(newer::Expiry::OnInactivity(30.days())));
        lifetime.set_max_lifetime(Some(40.days()));
    }

    let clock = TestClock::default();
    let routes = newer_routes(&clock).route("/remember", post(remember));
    let sessions = LifetimeLayer::new(newer::MemoryStore::default(), newer_sessions);
    let server = Server::start(routes.layer(sessions.with_clock(clock.as_fn()))).await;
    let client = server.client();
    client.post("/remember").await;
    for (days, age) in [(5, 30), (15, 20)] {
        clock.advance(days.days());
        let (answer, age) = (client.get("/").await, age.days());
        assert_eq!(answer.outcome(), "refreshed");
        assert!(
            crate::about(answer.cookie_age().expect("it is sent"), age),
            "{answer:?}"
        );
    }
    clock.advance(20.days());
    assert_eq!(client.get("/").await.outcome(), "no_session");
}
