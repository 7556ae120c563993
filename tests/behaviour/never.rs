//! One test for each sentence of the promises with "never", "nothing" or "no" that no other module shows.
//!
//! Never a session for a visitor, a forged or an expired cookie: `counts`. Never one after a logout, nothing on a 5xx:
//! `commit`, `races`. Never the session id in an event: `events`. Never mistaken for anonymous: `failures`.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use axum::{Extension, Router, body::Body, response::Redirect, routing::get};
use http::{Request, StatusCode};
use session_refresh::{RefreshInfo, session_refresh};
use session_refresh_tests::{CountingStore, CurrentUser, Gate, Setup, login_routes};
use time::{OffsetDateTime, ext::NumericalDuration as _};
use tower::ServiceExt as _;
use tower_sessions::{MemoryStore, Session, SessionManagerLayer};

use crate::only_loads;

const KEY: &str = "session_refresh.refreshed_at";

#[session_refresh(interval = "1h")]
async fn page() {}

#[tokio::test]
async fn never_due_twice_within_an_interval_wherever_the_clock_goes() {
    let site = Setup::new(Router::new().route("/", get(page)))
        .start()
        .await;
    let client = site.login("user").await;
    let mut outcomes = Vec::new();
    // Forth and back by less than the tolerated minute, then to the end of the interval.
    for seconds in [30, -60, 50, 0, 3_579, 0, 1, 0] {
        outcomes.push(client.get("/").await.outcome().to_owned());
        site.clock.advance(seconds.seconds());
    }
    assert_eq!(
        outcomes
            .iter()
            .filter(|outcome| *outcome == "refreshed")
            .count(),
        2,
        "{outcomes:?}"
    );
}

#[tokio::test]
async fn a_clock_that_jumps_by_a_year_heals_itself() {
    let site = Setup::new(Router::new().route("/", get(page)))
        .start()
        .await;
    let client = site.login("user").await;
    client.get("/").await;
    for jump in [365, -365, -365, 365] {
        site.clock.advance(jump.days());
        assert_eq!(client.get("/").await.outcome(), "refreshed", "{jump}");
        assert_eq!(client.get("/").await.outcome(), "not_due", "{jump}");
    }
}

/// The service itself rather than a server: what is dropped here is what a server drops when the client goes away.
#[tokio::test]
async fn nothing_is_written_when_the_client_goes_away_before_the_answer() {
    #[session_refresh]
    async fn slow(Extension(gate): Extension<Gate>) {
        gate.pass().await;
    }
    let store = CountingStore::new(MemoryStore::default());
    let gate = Gate::default();
    let app: Router = Router::new()
        .route("/slow", get(slow))
        .merge(login_routes())
        .layer(Extension(gate.clone()))
        .layer(SessionManagerLayer::new(store.clone()).with_secure(false));

    let login = Request::post("/login/user").body(Body::empty()).unwrap();
    let cookie = app.clone().oneshot(login).await.unwrap().headers()["set-cookie"].clone();
    let cookie = cookie.to_str().unwrap().split(';').next().unwrap();
    let _ = store.take();

    let request = Request::get("/slow")
        .header("cookie", cookie)
        .body(Body::empty())
        .unwrap();
    tokio::select! {
        answer = app.oneshot(request) => panic!("answered: {answer:?}"),
        () = gate.arrived() => {}
    }
    assert_eq!(store.take(), only_loads(1));
}

#[tokio::test]
async fn no_input_of_any_kind_is_answered_500() {
    let site = Setup::new(Router::new().route("/", get(page)))
        .start()
        .await;
    let client = site.login("user").await;
    let id = client.session_id().unwrap();
    let long = "a".repeat(3_000);
    for (header, value) in [
        ("cookie", format!("id={id}; id={id}")),
        ("cookie", format!("id={id}AAAA")),
        ("cookie", format!("id={long}")),
        ("cookie", format!("{long}={id}")),
        ("cookie", "id=\u{fc}\u{1f36a}".to_owned()),
        ("cookie", format!("ID={id}")),
        ("cookie", "id==;;=".to_owned()),
        ("cache-control", "no-cache, \u{fc}".to_owned()),
    ] {
        let answer = site.visitor().get_with("/", header, &value).await;
        assert_eq!(answer.status, StatusCode::OK, "{header}: {value}");
    }
}

#[tokio::test]
async fn a_fixed_expiry_is_never_moved_whatever_the_handler_does() {
    #[session_refresh]
    async fn changes(session: Session, refresh: RefreshInfo) -> String {
        session.insert("cart", 1).await.unwrap();
        refresh.refreshed.to_string()
    }
    let end = OffsetDateTime::now_utc() + 1.days();
    let site = Setup::new(Router::new().route("/", get(changes)))
        .expiry(tower_sessions::Expiry::AtDateTime(end))
        .start()
        .await;
    let client = site.login("user").await;
    let answer = client.get("/").await;
    assert_eq!(
        (answer.text.as_str(), answer.outcome()),
        ("false", "fixed_expiry")
    );
    let record = site.session(&client).await;
    assert_eq!(record.expiry_date, end);
    assert!(record.data.contains_key("cart") && !record.data.contains_key(KEY));
}

#[tokio::test]
async fn no_session_of_another_user_is_touched() {
    let site = Setup::new(Router::new().route("/", get(page)))
        .start()
        .await;
    let (one, other) = (site.login("user").await, site.login("user").await);
    let before = site.session(&other).await;
    assert_eq!(one.get("/").await.outcome(), "refreshed");
    assert_eq!(site.session(&other).await, before);
    assert_eq!(other.get("/").await.outcome(), "refreshed");
}

#[tokio::test]
async fn who_is_judged_is_who_is_logged_in_now() {
    #[session_refresh(interval = "1h", skip_superuser)]
    async fn page() {}
    let site = Setup::new(Router::new().route("/", get(page)))
        .start()
        .await;
    let client = site.visitor();
    assert_eq!(client.get("/").await.outcome(), "no_session");
    for (role, outcome) in [
        ("user", "refreshed"),
        ("superuser", "superuser"),
        ("staff", "refreshed"),
    ] {
        // One on top of the other in the same session, then after a logout.
        client.post(&format!("/login/{role}")).await;
        assert_eq!(client.get("/").await.outcome(), outcome, "{role}");
        site.clock.advance(1.hours());
    }
    for (role, outcome) in [("superuser", "superuser"), ("user", "refreshed")] {
        client.post("/logout").await;
        assert_eq!(client.get("/").await.outcome(), "no_session");
        client.post(&format!("/login/{role}")).await;
        assert_eq!(client.get("/").await.outcome(), outcome, "{role}");
    }
}

/// The decision is the handler's own to see: no handler runs twice, and none runs for a rejected user.
#[tokio::test]
async fn a_handler_runs_once_and_never_for_a_visitor_whom_its_extractor_turns_away() {
    #[session_refresh]
    async fn counted(_: CurrentUser, Extension(runs): Extension<Arc<AtomicUsize>>) -> Redirect {
        runs.fetch_add(1, Ordering::SeqCst);
        Redirect::to("/elsewhere")
    }
    let runs = Arc::<AtomicUsize>::default();
    let routes = Router::new()
        .route("/", get(counted))
        .layer(Extension(Arc::clone(&runs)));
    let site = Setup::new(routes).start().await;
    assert_eq!(
        site.visitor().get("/").await.status,
        StatusCode::UNAUTHORIZED
    );
    assert_eq!(runs.load(Ordering::SeqCst), 0);
    let answer = site.login("user").await.get("/").await;
    assert_eq!(
        (answer.status, answer.outcome()),
        (StatusCode::SEE_OTHER, "refreshed")
    );
    assert_eq!(runs.load(Ordering::SeqCst), 1);
}
