//! A slow page refreshes while another request changes or ends the same session.
//!
//! With tower-sessions' layer alone, what is shown here holds while the other request is done before the slow page answers.
//! The window at the write itself is what a `LifetimeLayer` closes: see `stores::races`.

use axum::{Extension, Router, routing::get};
use http::StatusCode;
use serde_json::json;
use session_refresh::session_refresh;
use session_refresh_tests::{Gate, Sessions, Setup, Site};
use tower_sessions::Session;

/// Until the other request is done.
#[session_refresh]
async fn slow(Extension(gate): Extension<Gate>) {
    gate.pass().await;
}

#[session_refresh]
async fn slow_with_a_role(Extension(gate): Extension<Gate>, session: Session) -> StatusCode {
    gate.pass().await;
    match session.get::<String>("role").await {
        Ok(Some(_)) => StatusCode::OK,
        _ => StatusCode::UNAUTHORIZED,
    }
}

async fn add(session: Session) {
    session.insert("cart", ["a book"]).await.unwrap();
}

async fn whoami(session: Session) -> String {
    let role: Option<String> = session.get("role").await.unwrap();
    role.unwrap_or_default()
}

async fn site<K: Sessions>(sessions: K) -> Site<K> {
    let routes = Router::new()
        .route("/slow", get(slow))
        .route("/slow_with_a_role", get(slow_with_a_role))
        .route("/add", get(add))
        .route("/whoami", get(whoami));
    Setup::new(routes).on(sessions).start().await
}

/// Who the server says has a cookie with this session.
async fn whoami_with<K: Sessions>(site: &Site<K>, id: &str) -> String {
    let cookie = format!("id={id}");
    site.visitor()
        .get_with("/whoami", "cookie", &cookie)
        .await
        .text
}

on_either_layer![
    nothing_added_to_the_cart_meanwhile_is_lost,
    nobody_who_logs_out_meanwhile_is_logged_in_again,
];

async fn nothing_added_to_the_cart_meanwhile_is_lost<K: Sessions>(sessions: K) {
    let site = site(sessions).await;
    for path in ["/slow", "/slow_with_a_role"] {
        let client = site.due().await;
        let answer = site
            .during(&client, path, async {
                assert_eq!(client.get("/add").await.status, StatusCode::OK);
            })
            .await;
        assert_eq!(
            (answer.status, answer.outcome()),
            (StatusCode::OK, "refreshed")
        );
        let cart = site.value(&client, "cart").await;
        assert_eq!(cart, Some(json!(["a book"])), "{path}");
    }
}

async fn nobody_who_logs_out_meanwhile_is_logged_in_again<K: Sessions>(sessions: K) {
    let site = site(sessions).await;
    for path in ["/slow", "/slow_with_a_role"] {
        let client = site.due().await;
        let id = client.session_id().unwrap().to_string();
        assert_eq!(whoami_with(&site, &id).await, "user");
        let answer = site
            .during(&client, path, async {
                assert_eq!(client.post("/logout").await.status, StatusCode::OK);
            })
            .await;
        // A touch has come before the logout, and a stamp would come after it.
        let outcome = if K::TOUCH { "refreshed" } else { "gone" };
        assert_eq!((answer.status, answer.outcome()), (StatusCode::OK, outcome));
        // tower-sessions' layer alone removes the cookie of a session that is gone.
        assert_eq!(answer.set_cookie().is_empty(), K::TOUCH);
        assert_eq!(whoami_with(&site, &id).await, "", "{path}");
        let counts = site.counts();
        assert_eq!((counts.creates, counts.saves), (0, 0), "{path}");
    }
}
