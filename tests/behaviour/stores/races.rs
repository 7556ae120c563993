//! A refresh aimed at another request's write, on a plain store and on ours, by one harness.

use std::{env, time::Duration as StdDuration};

use axum::{
    Router,
    extract::{FromRequestParts, Path},
    http::request::Parts,
    routing::{get, post},
};
use session_refresh::{SessionUser, session_refresh, store::Touch};
use session_refresh_tests::{
    Owned, Plain, Sessions, Setup,
    backends::{Backend, MySql, Postgres, Sqlite, on_every_backend},
};
use time::Duration;
use tower_sessions::{Expiry, Session, SessionStore};

on_every_backend!(a_refresh_aimed_at_another_requests_write_harms_nobody);

/// The user is known, and the session refreshed, this long after its record was loaded.
const THINKING: StdDuration = StdDuration::from_millis(4);
/// The other request is aimed this far around that moment.
const SPREAD: StdDuration = StdDuration::from_millis(2);
/// `THINKING - SPREAD`, which is no constant expression.
const EARLIEST: StdDuration = StdDuration::from_millis(2);

/// How often each race is run on ours. `RACE_ROUNDS` makes it more or fewer.
fn rounds() -> u32 {
    env::var("RACE_ROUNDS").map_or(25, |rounds| {
        rounds.parse().expect("RACE_ROUNDS is a number")
    })
}

#[session_refresh(interval = "24h", user = SlowlyFound)]
async fn page() {}

/// A user who is looked up while the session waits for its refresh.
struct SlowlyFound;

impl SessionUser for SlowlyFound {}

impl<S: Sync> FromRequestParts<S> for SlowlyFound {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(_: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        precise_sleep(THINKING).await;
        Ok(Self)
    }
}

/// tokio's timers tick once in a millisecond.
async fn precise_sleep(duration: StdDuration) {
    tokio::task::spawn_blocking(move || std::thread::sleep(duration))
        .await
        .unwrap();
}

async fn add(session: Session, Path(item): Path<String>) {
    session.insert("item", item).await.unwrap();
}

async fn state(session: Session) -> String {
    let role: Option<String> = session.get("role").await.unwrap();
    let item: Option<String> = session.get("item").await.unwrap();
    format!("{} {}", role.unwrap_or_default(), item.unwrap_or_default())
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Harm {
    lost: u32,
    brought_back: u32,
    not_200: u32,
}

async fn race<K: Sessions>(sessions: K, rounds: u32) -> Harm {
    let routes = Router::new()
        .route("/page", get(page))
        .route("/add/{item}", post(add))
        .route("/state", get(state));
    let site = Setup::new(routes)
        .expiry(Expiry::OnInactivity(Duration::days(14)))
        .on(sessions)
        .start()
        .await;
    let mut harm = Harm::default();
    for round in 0..2 * rounds {
        let client = site.due().await;
        let cookie = format!("id={}", client.session_id().unwrap());
        let refreshing = tokio::spawn({
            let client = client.clone();
            async move { client.get("/page").await }
        });
        // Every offset once, in an order that jumps about.
        let offset = SPREAD * 2 * (round * 37 % rounds) / rounds;
        precise_sleep(EARLIEST + offset).await;
        let logout = round % 2 == 1;
        let other = client
            .post(if logout { "/logout" } else { "/add/salt" })
            .await;
        let page = refreshing.await.unwrap();
        harm.not_200 += u32::from(page.status != 200) + u32::from(other.status != 200);
        let state = site.visitor().get_with("/state", "cookie", &cookie).await;
        let state = state.text;
        if logout {
            harm.brought_back += u32::from(state != " ");
        } else {
            harm.lost += u32::from(state != "user salt");
        }
    }
    harm
}

async fn a_refresh_aimed_at_another_requests_write_harms_nobody<B: Backend>(backend: B) {
    let rounds = rounds();
    let plain = race(Plain(backend.plain()), rounds).await;
    println!("{rounds} rounds on {:?}: {plain:?}", backend.plain());
    harms_nobody(backend.touching()).await;
}

async fn harms_nobody(store: impl SessionStore + Touch + Clone) {
    let rounds = rounds();
    let ours = race(Owned(store.clone()), rounds).await;
    println!("{rounds} rounds on {store:?}: {ours:?}");
    assert_eq!(ours, Harm::default(), "{store:?}");
}

/// Else it would say nothing of ours that it does no harm there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_does_harm_where_a_refresh_saves() {
    let backend = Sqlite::connect().await;
    for _ in 0..20 {
        let harm = race(Plain(backend.plain()), 25).await;
        if harm.lost + harm.brought_back > 0 {
            return;
        }
    }
    panic!("the races are aimed badly");
}

mod nor_does_one_on_sqlx_0_9 {
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn on_sqlite() {
        let backend = Sqlite::connect().await;
        harms_nobody(backend.touching_on_sqlx_0_9().await).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    #[cfg_attr(without_postgres, ignore = "POSTGRES_URL is not set")]
    async fn on_postgres() {
        let backend = Postgres::connect().await;
        harms_nobody(backend.touching_on_sqlx_0_9().await).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    #[cfg_attr(without_mysql, ignore = "MYSQL_URL is not set")]
    async fn on_mysql() {
        let backend = MySql::connect().await;
        harms_nobody(backend.touching_on_sqlx_0_9().await).await;
    }
}
