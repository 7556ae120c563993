//! The time of the last refresh, as the session keeps it.

use axum::{Router, routing::get};
use http::StatusCode;
use serde_json::{Value, json};
use session_refresh::{Policy, session_refresh};
use session_refresh_tests::{Events, Plain, Sessions, Setup, Site};
use time::{OffsetDateTime, ext::NumericalDuration as _};
use tracing::Level;

const KEY: &str = "session_refresh.refreshed_at";

on_plain_stores![
    the_stamp_is_unix_milliseconds_in_digits,
    whatever_is_no_stamp_counts_as_never_refreshed_and_is_repaired,
];

#[session_refresh(interval = "1h")]
async fn page() {}

#[session_refresh(interval = "1h", key = "own")]
async fn own() {}

async fn site<K: Sessions>(sessions: K) -> Site<K> {
    let routes = Router::new().route("/", get(page)).route("/own", get(own));
    Setup::new(routes).on(sessions).start().await
}

fn milliseconds(at: OffsetDateTime) -> i64 {
    i64::try_from(at.unix_timestamp_nanos() / 1_000_000).unwrap()
}

fn in_digits(stamp: &Value) -> Option<i64> {
    stamp.as_str()?.parse().ok()
}

async fn the_stamp_is_unix_milliseconds_in_digits<K: Sessions>(sessions: K) {
    let site = site(sessions).await;
    for (path, key) in [("/", KEY), ("/own", "own")] {
        let client = site.login("user").await;
        let before = milliseconds(site.clock.now());
        client.get(path).await;
        let after = milliseconds(site.clock.now());
        let stamp = site.value(&client, key).await.unwrap();
        let at = in_digits(&stamp).expect("digits");
        assert!(before <= at && at <= after, "{before} <= {at} <= {after}");
    }
}

/// All kinds of malformed stamps as seen at `now`, and what is said of each.
fn malformed(now: OffsetDateTime) -> Vec<(Value, &'static str)> {
    let no_integers = [
        json!("2026-11-23T12:00:00Z"),
        json!("1700000000000.5"),
        json!("-1"),
        json!(""),
        json!(null),
        json!(true),
        json!(1.5),
        json!(1e300),
        json!({"at": 1}),
        json!([]),
    ];
    let out_of_range = [
        json!("99999999999999999999"),
        json!(-1),
        json!(i64::MIN),
        json!(i64::MAX),
        json!(u64::MAX),
    ];
    let ahead = [
        json!(milliseconds(now + 2.minutes())),
        json!(milliseconds(now + 3650.days())),
    ];
    let all = no_integers
        .map(|stamp| (stamp, "not an integer"))
        .into_iter();
    all.chain(out_of_range.map(|stamp| (stamp, "out of range")))
        .chain(ahead.map(|stamp| (stamp, "more than a minute in the future")))
        .collect()
}

async fn whatever_is_no_stamp_counts_as_never_refreshed_and_is_repaired<K: Sessions>(sessions: K) {
    let site = site(sessions).await;
    let events = Events::record();
    for (path, key) in [("/", KEY), ("/own", "own")] {
        for (stamp, mistake) in malformed(site.clock.now()) {
            let client = site.login("user").await;
            site.edit(&client, |record| {
                record.data.insert(key.into(), stamp.clone());
            })
            .await;
            let complaints = || {
                let ours = events.ours();
                let complaint = |event: &&session_refresh_tests::Event| {
                    event.text.contains("counts as never refreshed") && event.text.contains(mistake)
                };
                ours.iter()
                    .filter(complaint)
                    .inspect(|event| assert_eq!(event.level, Level::DEBUG))
                    .count()
            };
            let before = complaints();
            let answer = client.get(path).await;
            assert_eq!(
                (answer.status, answer.outcome()),
                (StatusCode::OK, "refreshed"),
                "{stamp}"
            );
            assert_eq!(complaints(), before + 1, "{stamp} is logged once");

            let repaired = site.value(&client, key).await.unwrap();
            assert!(in_digits(&repaired).is_some(), "{stamp}");
            assert_eq!(client.get(path).await.outcome(), "not_due", "{stamp}");
            assert_eq!(complaints(), before + 1, "{stamp}");
        }
    }
}

#[tokio::test]
async fn a_malformed_stamp_is_no_500_where_nothing_repairs_it_either() {
    #[session_refresh(skip_staff)]
    async fn skips_staff() {}
    #[session_refresh]
    async fn broken() -> StatusCode {
        StatusCode::NOT_IMPLEMENTED
    }
    let routes = Router::new()
        .route("/staff", get(skips_staff))
        .route("/broken", get(broken));
    let site = Setup::new(routes).start().await;
    for (stamp, _) in malformed(site.clock.now()) {
        let client = site.login("staff").await;
        site.edit(&client, |record| {
            record.data.insert(KEY.into(), stamp.clone());
        })
        .await;
        for _ in 0..2 {
            let answer = client.get("/staff").await;
            assert_eq!((answer.status, answer.outcome()), (StatusCode::OK, "staff"));
            assert_eq!(answer.refreshed_at(), None);
            let answer = client.get("/broken").await;
            assert_eq!(
                (answer.status, answer.outcome()),
                (StatusCode::NOT_IMPLEMENTED, "server_error")
            );
        }
        assert_eq!(site.value(&client, KEY).await, Some(stamp));
    }
}

#[tokio::test]
async fn a_stamp_from_a_clock_that_is_a_minute_ahead_is_no_mistake() {
    let site = site(Plain::<tower_sessions::MemoryStore>::default()).await;
    let client = site.login("user").await;
    let ahead = milliseconds(site.clock.now() + 59.seconds());
    site.edit(&client, |record| {
        record.data.insert(KEY.into(), json!(ahead));
    })
    .await;
    assert_eq!(client.get("/").await.outcome(), "not_due");
}

#[tokio::test]
async fn two_keys_are_two_schedules() {
    let site = site(Plain::<tower_sessions::MemoryStore>::default()).await;
    let client = site.login("user").await;
    for path in ["/", "/own"] {
        assert_eq!(client.get(path).await.outcome(), "refreshed");
        assert_eq!(client.get(path).await.outcome(), "not_due");
    }
}

#[tokio::test]
async fn the_layers_key_is_used_unless_the_route_names_its_own() {
    let routes = Router::new().route("/", get(page)).route("/own", get(own));
    let site = Setup::new(routes)
        .refresh(|layer| layer.defaults(Policy::new().key("layer")))
        .start()
        .await;
    let client = site.login("user").await;
    client.get("/").await;
    client.get("/own").await;
    let data = site.session(&client).await.data;
    assert!(data.contains_key("layer") && data.contains_key("own"));
    assert!(!data.contains_key(KEY));
}
