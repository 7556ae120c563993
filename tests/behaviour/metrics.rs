//! Numbers: each answered request once, under its route's pattern.

use axum::{Router, http::StatusCode, routing::get};
use metrics_exporter_prometheus::PrometheusBuilder;
use session_refresh::{Policy, RefreshLayer, session_refresh, store::Serialized};
use session_refresh_tests::{FailingStore, Owned, Setup};
use time::ext::NumericalDuration as _;
use tower_sessions::MemoryStore;

#[session_refresh(interval = "1h")]
async fn item() {}

#[session_refresh(interval = "1h", skip_staff)]
async fn not_for_staff() {}

#[session_refresh(interval = "1h")]
async fn fails() -> StatusCode {
    StatusCode::INTERNAL_SERVER_ERROR
}

/// The numbers of `name`, without it, in order.
fn numbers(text: &str, name: &str) -> Vec<String> {
    let mut numbers: Vec<_> = text
        .lines()
        .filter_map(|line| line.strip_prefix(name))
        .map(str::to_owned)
        .collect();
    numbers.sort_unstable();
    numbers
}

#[tokio::test]
async fn each_answered_request_counts_once_by_pattern_and_outcome() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let _guard = metrics::set_default_local_recorder(&recorder);
    let in_a_group = Router::new()
        .route("/group/{id}", get(async || ()))
        .route("/group/own/{id}", get(item))
        .layer(RefreshLayer::new().policy(Policy::every(1.hours())));
    let routes = Router::new()
        .route("/items/{id}", get(item))
        .route("/staff", get(not_for_staff))
        .route("/fails", get(fails))
        .route("/unannotated", get(async || ()))
        .merge(in_a_group);
    let store = FailingStore::new(MemoryStore::default());
    let site = Setup::new(routes).store(store.clone()).start().await;

    let client = site.login("user").await;
    for path in ["/items/1", "/items/2", "/items/3", "/unannotated"] {
        client.get(path).await;
    }
    client.get("/group/1").await;
    client.get("/group/own/1").await;
    site.visitor().get("/items/4").await;
    site.login("staff").await.get("/staff").await;
    site.login("user").await.get("/fails").await;
    store.fail_loads_after(0);
    client.get("/staff").await;

    let text = recorder.handle().render();
    assert_eq!(
        numbers(&text, "session_refresh_requests_total"),
        [
            r#"{route="/fails",outcome="server_error"} 1"#,
            r#"{route="/group/own/{id}",outcome="not_due"} 1"#,
            r#"{route="/group/{id}",outcome="not_due"} 1"#,
            r#"{route="/items/{id}",outcome="no_session"} 1"#,
            r#"{route="/items/{id}",outcome="not_due"} 2"#,
            r#"{route="/items/{id}",outcome="refreshed"} 1"#,
            r#"{route="/staff",outcome="staff"} 1"#,
            r#"{route="/staff",outcome="unavailable"} 1"#,
        ]
    );
    assert_eq!(numbers(&text, "session_refresh_touch"), [""; 0]);
}

#[tokio::test]
async fn each_touch_is_timed_by_its_result() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let _guard = metrics::set_default_local_recorder(&recorder);
    let failing = FailingStore::new(MemoryStore::default());
    let site = Setup::new(Router::new().route("/", get(item)))
        .without_user_source()
        .on(Owned(Serialized::new(failing.clone())))
        .start()
        .await;
    let client = site.login("user").await;
    site.clock.advance(2.hours());
    assert_eq!(client.get("/").await.outcome(), "refreshed");
    assert_eq!(client.get("/").await.outcome(), "not_due");
    site.clock.advance(2.hours());
    failing.fail_saves();
    assert_eq!(client.get("/").await.outcome(), "unavailable");

    let text = recorder.handle().render();
    assert_eq!(
        numbers(&text, "session_refresh_touch_duration_seconds_count"),
        [r#"{result="done"} 1"#, r#"{result="failed"} 1"#]
    );
}
