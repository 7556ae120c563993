//! Puts the application together: routes inside, then the layers that they need, the outermost last.

use std::sync::Arc;

use axum::{
    Router,
    http::{StatusCode, header},
    response::IntoResponse,
    routing::{get, post},
};
use axum_login::{AuthManagerLayerBuilder, AuthSession};
use maud::html;
use session_refresh::RefreshLayer;
use time::Duration;
use tower_sessions::{Expiry, SessionManagerLayer, SessionStore, cookie::SameSite};

use crate::{
    cart, login, pages, status,
    users::{Backend, Users},
    view,
};

/// How long a session lasts without a refresh: short, so that it can be seen to end.
pub const SESSION_LIFETIME: Duration = Duration::minutes(3);

#[derive(Clone)]
pub struct App {
    pub sessions: Arc<dyn SessionStore>,
}

/// The whole application.
pub fn router<S: SessionStore + Clone>(sessions: S, users: Users) -> Router {
    let session_layer = SessionManagerLayer::new(sessions.clone())
        // Browsers return a `Secure` cookie over https only, and this runs on plain http. Never do so on a network.
        .with_secure(false)
        .with_same_site(SameSite::Lax)
        .with_expiry(Expiry::OnInactivity(SESSION_LIFETIME));
    let auth_layer = AuthManagerLayerBuilder::new(Backend::new(users), session_layer).build();

    Router::new()
        .route("/", get(pages::dashboard))
        .route("/reports", get(pages::reports))
        .route("/staff", get(pages::staff))
        .route("/admin", get(pages::admin))
        .route("/slow", get(pages::slow))
        .route("/cart", get(cart::show))
        .route("/cart/add", post(cart::add))
        .route("/cart/remove", post(cart::remove))
        .route("/login", get(login::form).post(login::submit))
        .route("/logout", post(login::logout))
        .route("/status", get(status::status))
        .layer(RefreshLayer::new().user::<AuthSession<Backend>>())
        .layer(auth_layer)
        // What has nothing to do with a session stays outside: no look-up is spent on it.
        .route("/static/demo.css", get(css))
        .route("/static/demo.js", get(js))
        .fallback(not_found)
        .with_state(App {
            sessions: Arc::new(sessions),
        })
}

async fn css() -> impl IntoResponse {
    (
        [(header::CONTENT_TYPE, "text/css; charset=utf-8")],
        include_str!("static/demo.css"),
    )
}

async fn js() -> impl IntoResponse {
    (
        [(header::CONTENT_TYPE, "text/javascript; charset=utf-8")],
        include_str!("static/demo.js"),
    )
}

async fn not_found() -> impl IntoResponse {
    let text = html! { p { "There is no such page." } };
    (StatusCode::NOT_FOUND, view::notice("Not found", &text))
}
