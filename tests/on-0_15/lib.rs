//! An application on tower-sessions 0.15 alone, with that release's memory store and a store crate of its own.
#![cfg(test)]

use std::env;

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::Request,
    response::Response,
    routing::{get, post},
};
use http::{StatusCode, header};
use session_refresh::{
    LifetimeLayer, RefreshLayer, session_refresh,
    store::{IntoTouch, PostgresStore, Serialized, Touch},
    testing::{AssertRefresh as _, TestClock},
};
use sqlx::PgPool;
use time::ext::NumericalDuration as _;
use tower::ServiceExt as _;
use tower_sessions::{MemoryStore, Session, SessionManagerLayer, SessionStore};
use tower_sessions_rusqlite_store::{RusqliteStore, tokio_rusqlite::Connection};

#[session_refresh(interval = "1h", skip_unauthenticated = false)]
async fn page() {}

async fn visit(session: Session) {
    session.insert("visited", true).await.expect("it is loaded");
}

async fn send(app: &Router, method: &str, cookie: &str) -> Response {
    let request = Request::builder()
        .method(method)
        .header(header::COOKIE, cookie)
        .body(Body::empty())
        .expect("it is a request");
    app.clone().oneshot(request).await.expect("it answers")
}

async fn text(response: Response) -> String {
    let body = to_bytes(response.into_body(), 10_000).await;
    String::from_utf8(body.expect("it ends").to_vec()).expect("it is text")
}

fn cookie(response: &Response) -> Option<String> {
    let cookie = response.headers().get(header::SET_COOKIE)?.to_str().ok()?;
    cookie.split(';').next().map(str::to_owned)
}

fn routes() -> Router {
    Router::new().route("/", get(page).merge(post(visit)))
}

async fn is_stamped_when_due(store: impl SessionStore + Clone) {
    let clock = TestClock::default();
    let app = routes()
        .layer(RefreshLayer::new().clock(clock.as_fn()))
        .layer(SessionManagerLayer::new(store));
    is_refreshed_when_due(app, &clock).await;
}

async fn is_touched_when_due<S, Way>(store: impl IntoTouch<Way, Store = S>)
where
    S: Touch + SessionStore + Clone,
{
    let clock = TestClock::default();
    let sessions = LifetimeLayer::new(store, |store| SessionManagerLayer::new(store));
    let app = routes().layer(sessions.with_clock(clock.as_fn()));
    is_refreshed_when_due(app, &clock).await;
}

async fn is_refreshed_when_due(app: Router, clock: &TestClock) {
    let app = app.layer(RefreshLayer::new().info_in_response());
    let id = cookie(&send(&app, "POST", "").await).expect("a visit makes a session");

    clock.advance(2.hours());
    let due = send(&app, "GET", &id).await;
    due.assert_refreshed();
    assert_eq!(cookie(&due).as_ref(), Some(&id));
    // What the refresh has written is read, also where `serde_json` takes numbers of any precision.
    let not_due = send(&app, "GET", &id).await;
    not_due.assert_not_refreshed();
}

async fn sqlite() -> RusqliteStore {
    let connection = Connection::open_in_memory().await.expect("it opens");
    let store = RusqliteStore::new(connection);
    store.migrate().await.expect("it is empty");
    store
}

#[tokio::test]
async fn a_session_in_memory_is_refreshed() {
    is_stamped_when_due(MemoryStore::default()).await;
}

#[tokio::test]
async fn a_session_in_sqlite_is_refreshed() {
    is_stamped_when_due(sqlite().await).await;
}

#[tokio::test]
async fn a_session_in_memory_is_touched() {
    is_touched_when_due(MemoryStore::default()).await;
}

#[tokio::test]
async fn a_session_in_sqlite_is_touched() {
    is_touched_when_due(Serialized::new(sqlite().await)).await;
}

async fn postgres() -> PostgresStore<PgPool> {
    let url = env::var("POSTGRES_URL").expect("a server");
    let store = PostgresStore::new(PgPool::connect(&url).await.expect("it answers"));
    store.migrate().await.expect("a table can be made");
    store
}

#[tokio::test]
#[cfg_attr(without_postgres, ignore = "POSTGRES_URL is not set")]
async fn a_session_in_postgres_is_stamped() {
    is_stamped_when_due(postgres().await).await;
}

#[tokio::test]
#[cfg_attr(without_postgres, ignore = "POSTGRES_URL is not set")]
async fn a_session_in_postgres_is_touched() {
    is_touched_when_due(postgres().await).await;
}

#[tokio::test]
async fn a_missing_session_names_the_release_that_is_enabled_and_the_feature_for_the_other() {
    let app = Router::new().route("/", get(page));
    let answer = send(&app, "GET", "").await;
    assert_eq!(answer.status(), StatusCode::INTERNAL_SERVER_ERROR);
    let text = text(answer).await;
    assert!(text.contains("tower-sessions 0.15 enabled"), "{text}");
    assert!(text.contains("`tower-sessions-0_14`"), "{text}");
}
