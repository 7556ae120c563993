//! A slow page refreshes while another request changes or ends the same session.
//!
//! With tower-sessions' layer alone, what is shown here holds while the other request is done before the slow page answers.
//! The window at the write itself is what a `LifetimeLayer` closes (`stores::races`); how often a plain store is hit when
//! aimed at it is printed by `cargo test -p session-refresh-tests --test behaviour aimed -- --ignored --nocapture`.

use std::time::Duration;

use axum::{Extension, Router, routing::get};
use http::StatusCode;
use serde_json::json;
use session_refresh::session_refresh;
use session_refresh_tests::{
    Client, Gate, Sessions, Setup, Site,
    backends::{Backend, Memory},
};
use tokio::time::sleep;
use tower_sessions::Session;

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

async fn site<K: Sessions>(sessions: K) -> Site<K> {
    let routes = Router::new()
        .route("/slow", get(slow))
        .route("/slow_with_a_role", get(slow_with_a_role))
        .route("/add", get(add))
        .route("/whoami", get(whoami));
    Setup::new(routes).on(sessions).start().await
}

/// Who the server says has a cookie with this session.
async fn whoami_with<K: Sessions>(site: &Site<K>, id: &str) -> String {
    let cookie = format!("id={id}");
    site.visitor()
        .get_with("/whoami", "cookie", &cookie)
        .await
        .text
}

on_either_layer![
    nothing_added_to_the_cart_meanwhile_is_lost,
    nobody_who_logs_out_meanwhile_is_logged_in_again,
];

async fn nothing_added_to_the_cart_meanwhile_is_lost<K: Sessions>(sessions: K) {
    let site = site(sessions).await;
    for round in 0..ROUNDS {
        let path = ["/slow", "/slow_with_a_role"][round % 2];
        let client = site.due().await;
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

async fn nobody_who_logs_out_meanwhile_is_logged_in_again<K: Sessions>(sessions: K) {
    let site = site(sessions).await;
    for round in 0..ROUNDS {
        let path = ["/slow", "/slow_with_a_role"][round % 2];
        let client = site.due().await;
        let id = client.session_id().unwrap().to_string();
        assert_eq!(whoami_with(&site, &id).await, "user");
        let answer = site
            .once_started(&client, path, async {
                assert_eq!(client.post("/logout").await.status, StatusCode::OK);
            })
            .await;
        // A touch has come before the logout, and a stamp would come after it.
        let outcome = if K::TOUCH { "refreshed" } else { "gone" };
        assert_eq!((answer.status, answer.outcome()), (StatusCode::OK, outcome));
        // tower-sessions' layer alone removes the cookie of a session that is gone.
        assert_eq!(answer.set_cookie().is_empty(), K::TOUCH);
        assert_eq!(whoami_with(&site, &id).await, "", "round {round}");
        let counts = site.counts();
        assert_eq!((counts.creates, counts.saves), (0, 0), "round {round}");
    }
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
        let backend = B::connect().await;
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
