//! What a page's script asks: how long the session lives, and to stay. The script itself is tested in a browser, with the demo.

use axum::{Router, routing::post};
use serde_json::{Value, json};
use session_refresh::{LifetimeLayer, Policy, keep_alive::KeepAlive, store::Serialized};
use session_refresh_tests::{
    Answer, Client, FailingStore, Owned, Plain, Server, Sessions, Setup, TestClock, login_routes,
};
use time::{Duration, OffsetDateTime};
use tower_sessions::{Expiry, MemoryStore, Session, SessionManagerLayer};

use crate::about;

on_touching_stores![
    asking_tells_the_end_and_extends_nothing,
    staying_extends_the_session_whoever_it_is,
    nobody_but_a_page_of_the_same_origin_can_make_somebody_stay,
    a_session_that_cannot_be_extended_says_so,
    a_visitor_has_no_time_left_and_no_session_after,
];

fn setup<K: Sessions>(sessions: K) -> Setup<K> {
    async fn fix(session: Session) {
        let end = OffsetDateTime::now_utc() + Duration::HOUR;
        session.insert("role", "user").await.unwrap();
        session.set_expiry(Some(Expiry::AtDateTime(end)));
    }
    let routes = Router::new().route("/fix", post(fix)).merge(
        KeepAlive::new("/session/keep-alive")
            .with_warning(Duration::seconds(90))
            .router(),
    );
    Setup::new(routes)
        .expiry(Expiry::OnInactivity(Duration::HOUR))
        .on(sessions)
}

const PATH: &str = "/session/keep-alive";

fn read(answer: &Answer) -> Value {
    assert_eq!(answer.header("cache-control"), "no-store", "{answer:?}");
    assert_eq!(
        answer.header("content-type"),
        "application/json",
        "{answer:?}"
    );
    serde_json::from_str(&answer.text).expect("it is JSON")
}

/// Seconds left, to the minute; the rest as it is.
fn left(answer: &Answer, expected: Duration) -> bool {
    let seconds = read(answer)["seconds_left"].as_f64().expect("a number");
    about(Duration::seconds_f64(seconds), expected)
}

async fn stay(client: &Client) -> Answer {
    client
        .post_with(PATH, "sec-fetch-site", "same-origin")
        .await
}

async fn asking_tells_the_end_and_extends_nothing<K: Sessions>(sessions: K) {
    let site = setup(sessions).start().await;
    let client = site.login("user").await;
    for minutes in [0, 20, 40] {
        let answer = client.get(PATH).await;
        assert!(left(&answer, Duration::minutes(60 - minutes)), "{answer:?}");
        assert_eq!((answer.outcome(), answer.set_cookie()), ("passive", ""));
        assert_eq!(read(&answer)["warn_before"], json!(90.0));
        assert_eq!(read(&answer)["can_stay"], json!(true));
        site.clock.advance(Duration::minutes(20));
    }
    let answer = client.get(PATH).await;
    assert_eq!(read(&answer)["seconds_left"], Value::Null);
    assert_eq!(answer.set_cookie(), "");
}

async fn staying_extends_the_session_whoever_it_is<K: Sessions>(sessions: K) {
    let defaults = Policy::new()
        .skip_superuser(true)
        .passive(true)
        .skip_paths(&["/session/"]);
    let site = setup(sessions)
        .refresh(|layer| layer.defaults(defaults))
        .start()
        .await;
    for role in ["user", "staff", "superuser"] {
        let client = site.login(role).await;
        for _ in 0..3 {
            site.clock.advance(Duration::minutes(59));
            let answer = stay(&client).await;
            assert!(left(&answer, Duration::HOUR), "{role} {answer:?}");
            assert_eq!(answer.outcome(), "refreshed", "{role}");
            assert_eq!(answer.cookie_age(), Some(Duration::HOUR), "{role}");
        }
    }
}

async fn nobody_but_a_page_of_the_same_origin_can_make_somebody_stay<K: Sessions>(sessions: K) {
    let site = setup(sessions).start().await;
    let client = site.login("user").await;
    site.clock.advance(Duration::minutes(30));
    let host = client.origin().strip_prefix("http://").unwrap();
    for (header, value) in [
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-site", "same-site"),
        ("sec-fetch-site", "none"),
        ("origin", "https://elsewhere.example"),
        ("origin", &format!("https://{host}.elsewhere.example")),
        ("origin", "null"),
        ("x-nothing", "at all"),
    ] {
        let answer = client.post_with(PATH, header, value).await;
        assert_eq!(answer.status, 403, "{header}: {value}");
        assert!(about(site.left(&client).await, Duration::minutes(30)));
    }
    let answer = client.post_with(PATH, "origin", client.origin()).await;
    assert_eq!(
        (answer.status.as_u16(), answer.outcome()),
        (200, "refreshed")
    );
}

async fn a_session_that_cannot_be_extended_says_so<K: Sessions>(sessions: K) {
    let site = setup(sessions)
        .max_lifetime(Duration::minutes(90))
        .start()
        .await;
    let client = site.visitor();
    client.post("/fix").await;
    let answer = client.get(PATH).await;
    assert_eq!(read(&answer)["can_stay"], json!(false));
    let answer = stay(&client).await;
    assert!(left(&answer, Duration::HOUR), "{answer:?}");
    assert_eq!(read(&answer)["can_stay"], json!(false));

    // So does one that has come to its limit, and not before.
    let client = site.login("user").await;
    assert_eq!(read(&client.get(PATH).await)["can_stay"], json!(true));
    site.clock.advance(Duration::minutes(50));
    let answer = stay(&client).await;
    assert!(left(&answer, Duration::minutes(40)), "{answer:?}");
    assert_eq!(read(&answer)["can_stay"], json!(false));
}

async fn a_visitor_has_no_time_left_and_no_session_after<K: Sessions>(sessions: K) {
    let site = setup(sessions).start().await;
    let visitor = site.visitor();
    for answer in [visitor.get(PATH).await, stay(&visitor).await] {
        assert_eq!(read(&answer)["seconds_left"], Value::Null);
        assert_eq!(read(&answer)["can_stay"], json!(false));
        assert_eq!(answer.set_cookie(), "");
    }
    assert_eq!(site.counts().writes(), 0);
}

/// A script that took this for the end of the session would say so to everybody.
#[tokio::test]
async fn a_store_that_is_down_is_not_the_end_of_a_session() {
    let store = FailingStore::new(MemoryStore::default());
    let site = setup(Owned(Serialized::new(store.clone()))).start().await;
    let client = site.login("user").await;
    store.fail_loads_after(0);
    for answer in [client.get(PATH).await, stay(&client).await] {
        assert_eq!(answer.status, 503);
    }
}

/// A plain layer does not know when a session ends: nobody is to be told that one has ended which lives.
#[tokio::test]
async fn they_need_a_lifetime_layer_and_say_so() {
    let site = setup(Plain(MemoryStore::default())).start().await;
    let client = site.login("user").await;
    for answer in [client.get(PATH).await, stay(&client).await] {
        assert_eq!(answer.status, 500);
        assert!(answer.text.contains("`LifetimeLayer`"), "{answer:?}");
    }
    assert!(site.value(&client, "role").await.is_some());
}

#[tokio::test]
async fn the_script_is_served_to_be_kept() {
    let site = setup(Plain(MemoryStore::default())).start().await;
    let answer = site
        .visitor()
        .get("/session/keep-alive/keep-alive.js")
        .await;
    assert_eq!(
        answer.header("content-type"),
        "text/javascript; charset=utf-8"
    );
    assert_eq!(answer.header("cache-control"), "public, max-age=3600");
    assert!(answer.text.contains("session-keep-alive"));
    assert_eq!(answer.set_cookie(), "");
}

#[test]
#[should_panic(expected = "at least 20 seconds")]
fn a_warning_that_nobody_can_answer_is_refused() {
    let _ = KeepAlive::new("/keep-alive").with_warning(Duration::seconds(19));
}

#[test]
#[should_panic(expected = "begins with `/`")]
fn a_path_that_is_none_is_refused() {
    let _ = KeepAlive::new("keep-alive");
}

/// A layer of its own, which knows nothing of the routes' clock.
#[tokio::test]
async fn the_time_left_goes_by_the_sessions_own_clock() {
    let clock = TestClock::default();
    let sessions = LifetimeLayer::new(MemoryStore::default(), |store| {
        SessionManagerLayer::new(store)
            .with_secure(false)
            .with_expiry(Expiry::OnInactivity(Duration::HOUR))
    });
    let routes = KeepAlive::new(PATH).router().merge(login_routes());
    let server = Server::start(routes.layer(sessions.with_clock(clock.as_fn()))).await;
    let client = server.client();
    client.post("/login/user").await;
    clock.advance(Duration::minutes(59));
    let answer = client.get(PATH).await;
    assert!(left(&answer, Duration::minutes(1)), "{answer:?}");
}
