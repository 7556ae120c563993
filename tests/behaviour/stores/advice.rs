//! What an application on a plain store is told once. Each process has one chance to say it, so each test is one.

use std::{env, process::Command};

use axum::{Router, routing::get};
use session_refresh::{session_refresh, store::RefreshStore};
use session_refresh_tests::{Events, Server, login_routes};
use tower_sessions::{MemoryStore, SessionManagerLayer, SessionStore};
use tracing::Level;

#[session_refresh]
async fn page() {}

async fn requests<S: SessionStore + Clone>(store: S) {
    let events = Events::record();
    let app = Router::new()
        .route("/page", get(page))
        .merge(login_routes())
        .layer(SessionManagerLayer::new(store).with_secure(false));
    let server = Server::start(app).await;
    for _ in 0..2 {
        let client = server.client();
        client.post("/login/user").await;
        client.get("/page").await;
        client.get("/page").await;
    }
    let advice = events
        .ours()
        .iter()
        .filter(|event| event.level == Level::INFO && event.text.contains("RefreshStore"))
        .count();
    println!("advised {advice} times");
}

#[tokio::test]
#[ignore = "started by the test below"]
async fn child() {
    match env::var("CHILD_ON").unwrap_or_default().as_str() {
        "plain" => requests(MemoryStore::default()).await,
        "wrapped" => requests(RefreshStore::new(MemoryStore::default())).await,
        _ => eprintln!("skipped: not started as a child"),
    }
}

#[test]
fn a_plain_store_is_advised_of_refresh_store_once_and_a_wrapped_one_never() {
    for (store, times) in [("plain", 1), ("wrapped", 0)] {
        let child = Command::new(env::current_exe().unwrap())
            .args([
                "--exact",
                "stores::advice::child",
                "--ignored",
                "--nocapture",
            ])
            .env("CHILD_ON", store)
            .output()
            .unwrap();
        let output = String::from_utf8(child.stdout).unwrap();
        assert!(
            output.contains(&format!("advised {times} times")),
            "{store}: {output}"
        );
    }
}
