//! A refresh aimed at another request's write, on a plain store and on ours, by one harness: that the plain store loses
//! shows that the harness bites.

use std::{env, time::Duration as StdDuration};

use axum::{
    Router,
    extract::Path,
    routing::{get, post},
};
use session_refresh::{RefreshLayer, session_refresh, store::RefreshStore};
use session_refresh_tests::{Server, TestClock, backends::Backend, login_routes, on_every_store};
use time::Duration;
use tower_sessions::{Expiry, Session, SessionManagerLayer, SessionStore};

on_every_store!(a_refresh_aimed_at_another_requests_write_harms_nobody);

/// The page commits this long after it was asked for.
const THINKING: StdDuration = StdDuration::from_millis(4);
/// The other request is aimed this far around that moment.
const SPREAD: StdDuration = StdDuration::from_millis(2);
/// `THINKING - SPREAD`, which is no constant expression.
const EARLIEST: StdDuration = StdDuration::from_millis(2);

/// How often each race is run on ours. `RACE_ROUNDS` makes it more or fewer.
fn rounds() -> u32 {
    env::var("RACE_ROUNDS").map_or(100, |rounds| {
        rounds.parse().expect("RACE_ROUNDS is a number")
    })
}

#[session_refresh(interval = "24h")]
async fn page(session: Session) {
    // The handler shares the load that the decision makes.
    let _: Option<String> = session.get("role").await.unwrap();
    precise_sleep(THINKING).await;
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

async fn race<S: SessionStore + Clone>(store: S, clock: &TestClock, rounds: u32) -> Harm {
    let app = Router::new()
        .route("/page", get(page))
        .route("/add/{item}", post(add))
        .route("/state", get(state))
        .merge(login_routes())
        .layer(RefreshLayer::new().clock(clock.as_fn()))
        .layer(
            SessionManagerLayer::new(store)
                .with_secure(false)
                .with_expiry(Expiry::OnInactivity(Duration::days(14))),
        );
    let server = Server::start(app).await;
    let mut harm = Harm::default();
    for round in 0..2 * rounds {
        let client = server.client();
        let cookie = client.post("/login/user").await.set_cookie().to_owned();
        let cookie = cookie.split(';').next().unwrap();
        clock.advance(Duration::DAY);
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
        let state = server
            .client()
            .get_with("/state", "cookie", cookie)
            .await
            .text;
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
    let clock = TestClock::default();
    let plain = race(backend.plain(), &clock, rounds).await;
    let store = RefreshStore::new(backend.touching()).with_clock(clock.as_fn());
    let ours = race(store, &clock, rounds).await;
    let name = std::any::type_name::<B>()
        .rsplit("::")
        .next()
        .unwrap_or_default();
    println!("{name}, {rounds} rounds each: plain {plain:?}, ours {ours:?}");
    assert_eq!(ours, Harm::default(), "{name}");
}
