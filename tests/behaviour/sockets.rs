//! A socket holds its session long after the response has been sent.

use std::sync::Arc;

use axum::{Extension, Router, routing::get};
use session_refresh::session_refresh;
use session_refresh_tests::{
    Gate, Owned, Sessions, Setup, TestClock,
    backends::{Backend as _, Memory},
};
use time::{Duration, ext::NumericalDuration as _};
use tokio::sync::Semaphore;
use tower_sessions::{Expiry, Session};

on_touching_stores![
    what_a_socket_sets_as_its_sessions_lifetime_holds,
    a_socket_under_a_public_page_extends_its_session,
    a_socket_that_saves_each_minute_loses_nothing_however_long,
    what_a_socket_changes_and_saves_is_saved,
];

/// Stands for a socket that lets its session end within the hour.
#[session_refresh]
async fn shortens(session: Session, Extension(gate): Extension<Gate>) {
    let _: Option<String> = session.get("role").await.unwrap();
    tokio::spawn(async move {
        gate.pass().await;
        session.set_expiry(Some(Expiry::OnInactivity(Duration::HOUR)));
        session.save().await.unwrap();
        gate.arrive();
    });
}

async fn what_a_socket_sets_as_its_sessions_lifetime_holds<K: Sessions>(sessions: K) {
    let routes = Router::new().route("/", get(shortens));
    let site = Setup::new(routes).on(sessions).start().await;
    let client = site.due().await;
    client.get("/").await;
    site.gate.arrived().await;
    site.gate.open();
    site.gate.arrived().await;
    assert!(crate::about(site.left(&client).await, Duration::HOUR));
}

/// The page is due, and tower-sessions saves nothing at its end: the socket's save is its own.
async fn a_socket_under_a_public_page_extends_its_session<K: Sessions>(sessions: K) {
    #[session_refresh]
    async fn public(
        session: Session,
        Extension(gate): Extension<Gate>,
    ) -> [(&'static str, &'static str); 1] {
        tokio::spawn(async move {
            gate.pass().await;
            session.save().await.unwrap();
            gate.arrive();
        });
        [("cache-control", "public")]
    }
    let routes = Router::new().route("/", get(public));
    let site = Setup::new(routes).on(sessions).start().await;
    let client = site.due().await;
    assert_eq!(client.get("/").await.set_cookie(), "");
    site.gate.arrived().await;
    site.clock.advance(13.days());
    site.gate.open();
    site.gate.arrived().await;
    assert!(crate::about(site.left(&client).await, 14.days()));
}

/// What the socket is to do next.
#[derive(Clone)]
struct Orders {
    save: Arc<Semaphore>,
    change: Arc<Semaphore>,
    done: Gate,
}

/// Stands for a socket: saves, or changes and saves, when it is told to.
#[session_refresh]
async fn socket(session: Session, Extension(orders): Extension<Orders>) {
    let _: Option<String> = session.get("role").await.unwrap();
    tokio::spawn(async move {
        loop {
            tokio::select! {
                permit = orders.save.acquire() => permit.unwrap().forget(),
                permit = orders.change.acquire() => {
                    permit.unwrap().forget();
                    session.remove_value("draft").await.unwrap();
                }
            }
            session.save().await.unwrap();
            orders.done.arrive();
        }
    });
}

#[session_refresh]
async fn add(session: Session) {
    let count: u32 = session.get("count").await.unwrap().unwrap_or_default();
    session.insert("count", count + 1).await.unwrap();
}

fn setup<K: Sessions>(sessions: K) -> (Setup<K>, Orders) {
    let orders = Orders {
        save: Arc::new(Semaphore::new(0)),
        change: Arc::new(Semaphore::new(0)),
        done: Gate::default(),
    };
    let routes = Router::new()
        .route("/socket", get(socket))
        .route("/add", get(add))
        .layer(Extension(orders.clone()));
    (Setup::new(routes).on(sessions), orders)
}

/// A3: for 25 minutes a socket saves what it has not changed, while another tab writes at minute 1 and at minute 22.
async fn saves_each_minute<K: Sessions>(sessions: K, minute: impl AsyncFn(&TestClock)) {
    let (setup, orders) = setup(sessions);
    let site = setup.start().await;
    let client = site.login("user").await;
    client.get("/socket").await;
    for passed in 1..=25 {
        minute(&site.clock).await;
        if [1, 22].contains(&passed) {
            client.get("/add").await;
        }
        orders.save.add_permits(1);
        orders.done.arrived().await;
        let count = site.value(&client, "count").await;
        assert_eq!(count, Some(if passed < 22 { 1 } else { 2 }.into()));
    }
    // Each save has extended the session.
    assert!(crate::about(site.left(&client).await, 14.days()));
}

async fn a_socket_that_saves_each_minute_loses_nothing_however_long<K: Sessions>(sessions: K) {
    saves_each_minute(sessions, async |clock| clock.advance(Duration::MINUTE)).await;
}

#[tokio::test]
#[ignore = "takes 25 minutes"]
async fn a_socket_that_saves_each_minute_loses_nothing_in_real_time() {
    let memory = Memory::connect().await;
    let minute = async |_: &TestClock| {
        tokio::time::sleep(std::time::Duration::from_secs(60)).await;
    };
    saves_each_minute(Owned(memory.touching()), minute).await;
}

async fn what_a_socket_changes_and_saves_is_saved<K: Sessions>(sessions: K) {
    let (setup, orders) = setup(sessions);
    let site = setup.start().await;
    let client = site.login("user").await;
    site.edit(&client, |record| {
        record.data.insert("draft".into(), "text".into());
    })
    .await;
    client.get("/socket").await;
    site.clock.advance(25.minutes());
    let _ = site.counts();
    orders.change.add_permits(1);
    orders.done.arrived().await;
    assert_eq!(site.value(&client, "draft").await, None);
    assert_eq!(site.counts().saves, 1);
    // It is known what was written: the next save has nothing to write.
    client.get("/add").await;
    let _ = site.counts();
    orders.save.add_permits(1);
    orders.done.arrived().await;
    assert_eq!(site.counts().saves, 0);
    assert_eq!(site.value(&client, "count").await, Some(1.into()));
}
