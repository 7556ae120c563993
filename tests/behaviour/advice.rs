//! What an application with tower-sessions' layer alone is told once.

use axum::{Router, routing::get};
use session_refresh::session_refresh;
use session_refresh_tests::{
    Event, Events, Owned, Plain, Sessions, Setup,
    backends::{Backend, Memory, MySql, Postgres, Redis, RedisRs, Sqlite},
};
use tracing::Level;

#[session_refresh]
async fn page() {}

/// What is said while sessions are refreshed.
async fn events<K: Sessions>(sessions: K) -> Vec<Event> {
    let events = Events::record();
    let routes = Router::new().route("/page", get(page));
    let site = Setup::new(routes).on(sessions).start().await;
    for _ in 0..3 {
        let client = site.due().await;
        assert_eq!(client.get("/page").await.outcome(), "refreshed");
    }
    events.ours()
}

/// The advice among it.
async fn advice<K: Sessions>(sessions: K) -> Vec<Event> {
    let is_advice =
        |event: &Event| event.level == Level::INFO && event.text.contains("LifetimeLayer");
    events(sessions)
        .await
        .into_iter()
        .filter(is_advice)
        .collect()
}

#[tokio::test]
async fn a_plain_layer_is_advised_of_ours_at_most_once_and_ours_never() {
    let memory = Memory::connect().await;
    assert!(advice(Owned(memory.touching())).await.is_empty());
    // Another test of this process may have been the first.
    advice(Plain(memory.plain())).await;
    assert_eq!(Events::all_of_the_process("LifetimeLayer"), 1);
    assert!(advice(Plain(memory.plain())).await.is_empty());
}

/// A store of ours that is not in a `LifetimeLayer` says so, the first time that it is asked, and only then.
async fn is_advised<B: Backend>() {
    async fn warnings<K: Sessions>(sessions: K) -> usize {
        let is_warning = |event: &&Event| {
            event.level == Level::WARN && event.text.contains("this store can touch")
        };
        events(sessions).await.iter().filter(is_warning).count()
    }

    let backend = B::connect().await;
    let store = backend.touching();
    assert_eq!(warnings(Owned(store.clone())).await, 0);
    assert_eq!(warnings(Plain(store)).await, 0, "it has been in our layer");
    let store = backend.touching();
    assert_eq!(warnings(Plain(store.clone())).await, 1);
    assert_eq!(warnings(Plain(store)).await, 0);
}

/// On one thread: that is whose events are recorded.
macro_rules! a_store_that_can_touch_is_advised_of_our_layer_once {
    ($($store:ident $backend:ident),*) => {
        mod a_store_that_can_touch_is_advised_of_our_layer_once {$(
            session_refresh_tests::on_backend! { $store
                #[tokio::test]
                async fn $store() {
                    super::is_advised::<super::$backend>().await;
                }
            }
        )*}
    };
}

a_store_that_can_touch_is_advised_of_our_layer_once![
    sqlite Sqlite, postgres Postgres, mysql MySql, redis Redis, redis_rs RedisRs
];
