//! A store's server that stalls, dies and comes back: what is served, and what is lost.

use std::time::Duration as StdDuration;

use axum::{Extension, Router, routing::get};
use fred::prelude::*;
use session_refresh::{LifetimeLayer, session_refresh, store::RedisStore};
use session_refresh_tests::{
    Answer, Client, FoundAtGate, Gate, OwnServer, Server, TestClock, login_routes,
};
use time::Duration;
use tower_sessions::{Expiry, Session, SessionManagerLayer};

#[session_refresh(interval = "24h", user = FoundAtGate)]
async fn page() {}

#[session_refresh(interval = "24h")]
async fn quick() {}

async fn role(session: Session) -> Result<String, http::StatusCode> {
    let role: Option<String> = session
        .get("role")
        .await
        .map_err(|_| http::StatusCode::SERVICE_UNAVAILABLE)?;
    Ok(role.unwrap_or_default())
}

const USERS: usize = 20;

/// All clients at once.
async fn all(clients: &[Client], path: &'static str) -> Vec<Answer> {
    let requests: Vec<_> = clients
        .iter()
        .cloned()
        .map(|client| tokio::spawn(async move { client.get(path).await }))
        .collect();
    let mut answers = Vec::new();
    for request in requests {
        answers.push(request.await.unwrap());
    }
    answers
}

fn count(answers: &[Answer], status: u16, outcome: &str) -> usize {
    answers
        .iter()
        .filter(|answer| answer.status == status && answer.outcome() == outcome)
        .count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[cfg_attr(without_own_redis, ignore = "redis-server is not installed")]
#[allow(clippy::too_many_lines)]
async fn a_store_that_stalls_or_dies_costs_no_page_and_no_session() {
    let mut redis = OwnServer::redis(&[]);
    let pool = Builder::from_config(
        Config::from_url(&format!("redis://127.0.0.1:{}", redis.port())).unwrap(),
    )
    .with_performance_config(|config| {
        config.default_command_timeout = StdDuration::from_millis(500);
    })
    .with_connection_config(|config| config.reconnect_on_auth_error = true)
    .set_policy(ReconnectPolicy::new_constant(0, 50))
    .build_pool(2)
    .unwrap();
    pool.init().await.unwrap();
    let clock = TestClock::default();
    let sessions = LifetimeLayer::new(RedisStore::new(pool), |store| {
        SessionManagerLayer::new(store)
            .with_secure(false)
            .with_expiry(Expiry::OnInactivity(Duration::days(14)))
    })
    .with_clock(clock.as_fn())
    .with_touch_limit(StdDuration::from_millis(100));
    let gate = Gate::default();
    let app = Router::new()
        .route("/page", get(page))
        .route("/quick", get(quick))
        .route("/role", get(role))
        .merge(login_routes())
        .layer(Extension(gate.clone()))
        .layer(sessions.clone());
    let server = Server::start(app).await;
    let clients: Vec<_> = (0..USERS).map(|_| server.client()).collect();
    for client in &clients {
        client.post("/login/user").await;
    }

    // Stalled, or killed, between load and touch: every page is served, none claims to be refreshed.
    for outage in ["stalled", "killed"] {
        clock.advance(Duration::DAY);
        let requests = tokio::spawn({
            let clients = clients.clone();
            async move { all(&clients, "/page").await }
        });
        for _ in 0..USERS {
            gate.arrived().await;
        }
        if outage == "stalled" {
            redis.signal("-STOP");
        } else {
            redis.kill();
        }
        for _ in 0..USERS {
            gate.open();
        }
        let answers = requests.await.unwrap();
        println!(
            "{outage} at the touch: {} of {USERS} pages served",
            count(&answers, 200, "unavailable")
        );
        assert_eq!(count(&answers, 200, "unavailable"), USERS, "{outage}");
        assert!(answers.iter().all(|answer| answer.set_cookie().is_empty()));

        // Down before the request: a page that needs no session is served, one that does fails by its own choice.
        let answers = all(&clients, "/quick").await;
        println!(
            "{outage} before: {} of {USERS} pages served",
            count(&answers, 200, "unavailable")
        );
        assert_eq!(count(&answers, 200, "unavailable"), USERS, "{outage}");
        let answers = all(&clients, "/role").await;
        println!(
            "{outage} before: {} of {USERS} pages that need the session are 503",
            count(&answers, 503, "")
        );
        assert_eq!(count(&answers, 503, ""), USERS, "{outage}");

        if outage == "stalled" {
            redis.signal("-CONT");
        } else {
            redis.restart();
        }
        // Back: nobody has been logged out, and each session is refreshed once a touch is tried again.
        let mut lost = 0;
        for client in &clients {
            let mut answer = client.get("/role").await;
            while answer.status != 200 {
                answer = client.get("/role").await;
            }
            lost += usize::from(answer.text != "user");
            let mut page = client.get("/quick").await;
            while page.outcome() == "unavailable" {
                page = client.get("/quick").await;
            }
            assert!(
                ["refreshed", "not_due"].contains(&page.outcome()),
                "{}",
                page.outcome()
            );
        }
        println!(
            "{outage}: {lost} sessions lost, {} touches failed so far",
            sessions.failed_touches()
        );
        assert_eq!(lost, 0, "{outage}");
        assert!(sessions.failed_touches() > 0, "{outage}");
    }
}
