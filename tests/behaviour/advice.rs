//! What an application with tower-sessions' layer alone is told once.

use axum::{Router, routing::get};
use session_refresh::session_refresh;
use session_refresh_tests::{
    Event, Events, Owned, Plain, Sessions, Setup,
    backends::{Backend as _, Memory},
};
use tracing::Level;

#[session_refresh]
async fn page() {}

/// The advice among the events of this thread.
async fn advice<K: Sessions>(sessions: K) -> Vec<Event> {
    let events = Events::record();
    let routes = Router::new().route("/page", get(page));
    let site = Setup::new(routes).on(sessions).start().await;
    for _ in 0..3 {
        let client = site.due().await;
        assert_eq!(client.get("/page").await.outcome(), "refreshed");
    }
    let is_advice =
        |event: &Event| event.level == Level::INFO && event.text.contains("LifetimeLayer");
    events.ours().into_iter().filter(is_advice).collect()
}

#[tokio::test]
async fn a_plain_layer_is_advised_of_ours_at_most_once_and_ours_never() {
    let memory = Memory::connect().await.unwrap();
    assert!(advice(Owned(memory.touching())).await.is_empty());
    // Another test of this process may have been the first.
    advice(Plain(memory.plain())).await;
    assert_eq!(Events::all_of_the_process("LifetimeLayer"), 1);
    assert!(advice(Plain(memory.plain())).await.is_empty());
}
