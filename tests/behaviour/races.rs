//! A slow page refreshes while another request changes or ends the same session.
//!
//! On plain stores: what is shown here holds while the other request is done before the slow page answers. The window
//! at the write itself is what `RefreshStore` closes (`stores::races`); how often a plain store is hit when aimed at it
//! is printed by `cargo test -p session-refresh-tests --test behaviour aimed -- --ignored --nocapture`.

use std::time::Duration;

use axum::{Extension, Router, routing::get};
use http::StatusCode;
use serde_json::json;
use session_refresh::{session_refresh, store::RefreshStore};
use session_refresh_tests::{
    Client, Gate, Setup, Site,
    backends::{Backend, Memory},
};
use tokio::time::sleep;
use tower_sessions::{Session, SessionStore};

const ROUNDS: usize = 20;

/// 200 ms, from when the test knows that it has begun.
#[session_refresh]
async fn slow(Extension(gate): Extension<Gate>) {
    gate.arrive();
    sleep(Duration::from_millis(200)).await;
}

#[session_refresh]
async fn slow_with_a_role(Extension(gate): Extension<Gate>, session: Session) -> StatusCode {
    gate.arrive();
    sleep(Duration::from_millis(200)).await;
    match session.get::<String>("role").await {
        Ok(Some(_)) => StatusCode::OK,
        _ => StatusCode::UNAUTHORIZED,
    }
}

async fn add(session: Session) {
    session.insert("cart", ["a book"]).await.unwrap();
}

async fn whoami(session: Session) -> String {
    let role: Option<String> = session.get("role").await.unwrap();
    role.unwrap_or_default()
}

async fn site<S: SessionStore + Clone>(store: S) -> Site<S> {
    let routes = Router::new()
        .route("/slow", get(slow))
        .route("/slow_with_a_role", get(slow_with_a_role))
        .route("/add", get(add))
        .route("/whoami", get(whoami));
    Setup::new(routes).store(store).start().await
}

/// Who the server says has a cookie with this session.
async fn whoami_with<S: SessionStore + Clone>(site: &Site<S>, id: &str) -> String {
    let cookie = format!("id={id}");
    site.visitor()
        .get_with("/whoami", "cookie", &cookie)
        .await
        .text
}

on_each_store![
    nothing_added_to_the_cart_meanwhile_is_lost,
    nobody_who_logs_out_meanwhile_is_logged_in_again,
];

async fn nothing_added_to_the_cart_meanwhile_is_lost<S: SessionStore + Clone>(store: S) {
    let site = site(store).await;
    for round in 0..ROUNDS {
        let path = ["/slow", "/slow_with_a_role"][round % 2];
        let client = site.login("user").await;
        let answer = site
            .once_started(&client, path, async {
                assert_eq!(client.get("/add").await.status, StatusCode::OK);
            })
            .await;
        assert_eq!(
            (answer.status, answer.outcome()),
            (StatusCode::OK, "refreshed")
        );
        let cart = site.value(&client, "cart").await;
        assert_eq!(cart, Some(json!(["a book"])), "round {round}");
    }
}

async fn nobody_who_logs_out_meanwhile_is_logged_in_again<S: SessionStore + Clone>(store: S) {
    let site = site(store).await;
    for round in 0..ROUNDS {
        let path = ["/slow", "/slow_with_a_role"][round % 2];
        let client = site.login("user").await;
        let id = client.session_id().unwrap().to_string();
        assert_eq!(whoami_with(&site, &id).await, "user");
        let answer = site
            .once_started(&client, path, async {
                assert_eq!(client.post("/logout").await.status, StatusCode::OK);
            })
            .await;
        assert_eq!((answer.status, answer.outcome()), (StatusCode::OK, "gone"));
        assert_eq!(whoami_with(&site, &id).await, "", "round {round}");
        let counts = site.counts();
        assert_eq!((counts.creates, counts.saves), (0, 0), "round {round}");
    }
}

/// Somebody logs out and in again in another tab, or a login gives the session a new id, while the slow page runs.
async fn new_login_meanwhile<S: SessionStore + Clone>(store: S) {
    let site = site(store).await;
    let client = site.login("user").await;
    // A store that touches counts a login as an extension.
    site.clock.advance(time::Duration::hours(25));
    let answer = site
        .once_started(&client, "/slow", async {
            client.post("/logout").await;
            client.post("/login/user").await;
        })
        .await;
    assert_eq!(answer.outcome(), "gone");
    assert_eq!(client.get("/whoami").await.text, "user", "{answer:?}");
}

#[tokio::test]
async fn a_new_login_meanwhile_keeps_its_cookie_with_a_store_that_touches() {
    let memory = Memory::connect().await.unwrap();
    new_login_meanwhile(RefreshStore::new(memory.touching())).await;
}

/// How often the other request hits the window between the refresh's load and the layer's save.
mod aimed {
    use session_refresh_tests::backends::Sqlite;

    use super::*;

    const ROUNDS: u32 = 200;
    const SLOW: Duration = Duration::from_millis(30);

    #[session_refresh]
    async fn page(Extension(gate): Extension<Gate>) {
        gate.arrive();
        precise_sleep(SLOW).await;
    }

    /// tokio's timers tick once in a millisecond.
    async fn precise_sleep(duration: Duration) {
        tokio::task::spawn_blocking(move || std::thread::sleep(duration))
            .await
            .unwrap();
    }

    /// The other request, sent up to 2 ms before or after the page's end.
    async fn aim(round: u32, shot: impl Future) {
        const EARLIEST: Duration = Duration::from_millis(28);
        precise_sleep(EARLIEST + Duration::from_micros(u64::from(round % 41) * 100)).await;
        shot.await;
    }

    async fn rounds<B: Backend>(name: &str) {
        let backend = B::connect().await.unwrap();
        let routes = Router::new()
            .route("/page", get(page))
            .route("/add", get(add))
            .route("/whoami", get(whoami));
        let site = Setup::new(routes).store(backend.plain()).start().await;
        let (mut lost, mut back, mut not_200) = (0, 0, 0);
        for round in 0..ROUNDS {
            let client: Client = site.login("user").await;
            let page = site
                .once_started(&client, "/page", aim(round, client.get("/add")))
                .await;
            lost += u32::from(site.value(&client, "cart").await.is_none());
            not_200 += u32::from(page.status != StatusCode::OK);

            let client = site.login("user").await;
            let id = client.session_id().unwrap();
            let page = site
                .once_started(&client, "/page", aim(round, client.post("/logout")))
                .await;
            back += u32::from(site.record(id).await.is_some());
            not_200 += u32::from(page.status != StatusCode::OK);
        }
        println!(
            "{name}: of {ROUNDS} items {lost} lost, of {ROUNDS} logouts {back} undone, {not_200} pages not 200"
        );
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    #[ignore = "prints figures of a window that plain stores can't close"]
    async fn at_the_write() {
        rounds::<Memory>("MemoryStore").await;
        rounds::<Sqlite>("SqliteStore").await;
    }
}
