//! Mistakes in how an application is put together: a 500 that says how to mend it, and an error event.

use axum::{Router, routing::get};
use http::StatusCode;
use session_refresh::{Policy, RefreshInfo, RefreshLayer, session_refresh};
use session_refresh_tests::{Answer, CurrentUser, Events, Server, Setup};
use time::ext::NumericalDuration as _;
use tower_sessions::{MemoryStore, SessionManagerLayer};
use tracing::Level;

use crate::only_loads;

/// A 500 whose text has all of `hints`, and one error event with the same text.
fn assert_refused(answer: &Answer, events: &Events, hints: &[&str]) {
    assert_eq!(answer.status, StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!((answer.outcome(), answer.set_cookie()), ("", ""));
    for hint in hints {
        assert!(answer.text.contains(hint), "{}", answer.text);
    }
    let errors: Vec<_> = events
        .ours()
        .into_iter()
        .filter(|event| event.level == Level::ERROR)
        .collect();
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert_eq!(errors[0].text, answer.text);
}

#[session_refresh]
async fn page() {}

#[session_refresh(interval = "1h", skip_staff)]
async fn skips_staff() {}

#[session_refresh(skip_superuser)]
async fn skips_superuser() {}

#[tokio::test]
async fn a_missing_session_manager_is_asked_for_with_the_releases_that_would_do() {
    let server = Server::start(Router::new().route("/", get(page))).await;
    let events = Events::record();
    let answer = server.client().get("/").await;
    assert_refused(
        &answer,
        &events,
        &[
            "Is `LifetimeLayer` or `SessionManagerLayer`",
            "tower-sessions 0.14 or 0.15",
            "?",
        ],
    );
}

#[tokio::test]
async fn a_session_manager_inside_of_the_route_counts_as_missing() {
    // `route_layer` of the wrong router: the layer is there, but not around this route.
    let other = Router::new()
        .route("/other", get(page))
        .layer(SessionManagerLayer::new(MemoryStore::default()));
    let server = Server::start(Router::new().route("/", get(page)).merge(other)).await;
    let events = Events::record();
    assert_eq!(server.client().get("/other").await.outcome(), "no_session");
    let answer = server.client().get("/").await;
    assert_refused(&answer, &events, &["SessionManagerLayer"]);
}

#[tokio::test]
async fn the_answer_on_a_handler_without_the_attribute_asks_for_the_attribute() {
    let handler = async |refresh: RefreshInfo| refresh.outcome.to_string();
    let site = Setup::new(Router::new().route("/", get(handler)))
        .start()
        .await;
    let events = Events::record();
    let answer = site.login("user").await.get("/").await;
    assert_refused(
        &answer,
        &events,
        &["`RefreshInfo`", "#[session_refresh]", "?"],
    );
}

#[tokio::test]
async fn a_skip_by_role_without_a_user_source_is_refused_on_the_first_request() {
    let routes = || {
        Router::new()
            .route("/", get(page))
            .route("/staff", get(skips_staff))
            .route("/superuser", get(skips_superuser))
    };
    let site = Setup::new(routes()).without_user_source().start().await;
    for path in ["/staff", "/superuser"] {
        let hints = ["RefreshLayer", ".user::<T>()", "user = Type", "?"];
        // A visitor's request, and one that is due.
        for client in [site.visitor(), site.login("user").await] {
            let events = Events::record();
            assert_refused(&client.get(path).await, &events, &hints);
            assert_eq!(site.counts(), only_loads(0));
        }
        // One that is not due.
        let client = site.login("user").await;
        assert_eq!(client.get("/").await.outcome(), "refreshed");
        let events = Events::record();
        assert_refused(&client.get(path).await, &events, &hints);
    }
}

#[tokio::test]
async fn a_skip_by_role_among_the_layers_defaults_is_refused_as_well() {
    let app = Router::new()
        .route("/", get(page))
        .layer(RefreshLayer::new().defaults(Policy::new().skip_superuser(true)))
        .layer(SessionManagerLayer::new(MemoryStore::default()));
    let server = Server::start(app).await;
    let events = Events::record();
    let answer = server.client().get("/").await;
    assert_refused(&answer, &events, &["RefreshLayer"]);
}

#[tokio::test]
async fn a_route_that_names_its_user_needs_no_layer() {
    #[session_refresh(user = CurrentUser, skip_superuser)]
    async fn named() {}
    #[session_refresh(skip_staff = false)]
    async fn skips_nobody() {}

    let routes = Router::new()
        .route("/", get(named))
        .route("/nobody", get(skips_nobody));
    let site = Setup::new(routes).without_user_source().start().await;
    let client = site.login("superuser").await;
    assert_eq!(client.get("/").await.outcome(), "superuser");
    assert_eq!(client.get("/nobody").await.outcome(), "refreshed");
    site.clock.advance(24.hours());
    assert_eq!(
        site.login("user").await.get("/").await.outcome(),
        "refreshed"
    );
}
