//! A session whose row somebody holds locked: its trouble is its own.

use std::time::Duration as StdDuration;

use axum::{Router, routing::get};
use session_refresh::{LifetimeLayer, session_refresh, store::PostgresStore};
use session_refresh_tests::{
    Client, Server, TestClock,
    backends::{Backend as _, Postgres},
    login_routes,
};
use sqlx::postgres::PgPoolOptions;
use time::Duration;
use tower_sessions::{Expiry, SessionManagerLayer};

#[session_refresh(interval = "24h")]
async fn page() {}

/// S1, S2.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[cfg_attr(without_postgres, ignore = "POSTGRES_URL is not set")]
async fn a_row_that_is_locked_costs_nobody_else_a_page_or_a_refresh() {
    let postgres = Postgres::connect().await;
    // As an application has it: five connections, and whoever waits for one longer than this gets an error.
    let pool = PgPoolOptions::new()
        .max_connections(5)
        .acquire_timeout(StdDuration::from_secs(2))
        .connect_with((*postgres.pool.connect_options()).clone())
        .await
        .unwrap();
    let clock = TestClock::default();
    let sessions = LifetimeLayer::new(PostgresStore::new(pool), |store| {
        SessionManagerLayer::new(store)
            .with_secure(false)
            .with_expiry(Expiry::OnInactivity(Duration::days(14)))
    })
    .with_clock(clock.as_fn());
    let routes = Router::new()
        .route("/page", get(page))
        .merge(login_routes());
    let server = Server::start(routes.clone().layer(sessions.clone())).await;
    // For sessions from before the limit, a touch also records since when it counts.
    let limited = sessions.clone().with_max_lifetime(Duration::days(90));
    let limited_server = Server::start(routes.layer(limited.clone())).await;
    let login = async || {
        let client = server.client();
        client.post("/login/user").await;
        client
    };
    let locked = login().await;
    let mut others = Vec::new();
    for _ in 0..30 {
        others.push(login().await);
    }
    clock.advance(Duration::DAY);

    let lock = postgres.locked(locked.session_id().unwrap()).await;
    let ask = |client: &Client| {
        let client = client.clone();
        tokio::spawn(async move { client.get("/page").await })
    };
    let five: Vec<_> = (0..5).map(|_| ask(&locked)).collect();
    let other = others[0].get("/page").await;
    assert_eq!((other.status.as_u16(), other.outcome()), (200, "refreshed"));
    for page in five {
        let page = page.await.unwrap();
        assert_eq!((page.status.as_u16(), page.outcome()), (200, "not_due"));
    }
    // However often its user comes back, nobody else's touches are paused.
    for _ in 0..10 {
        assert_eq!(locked.get("/page").await.outcome(), "not_due");
    }
    for other in &others[1..] {
        assert_eq!(other.get("/page").await.outcome(), "refreshed");
    }
    let first_touch = limited_server.welcome(&locked).get("/page").await;
    let answered = (first_touch.status.as_u16(), first_touch.outcome());
    assert_eq!(answered, (200, "not_due"));
    for sessions in [&sessions, &limited] {
        assert_eq!(sessions.failed_touches(), 0, "a touch waits for no lock");
    }

    // Free again, it is extended as any other.
    lock.rollback().await.unwrap();
    assert_eq!(locked.get("/page").await.outcome(), "refreshed");
}
