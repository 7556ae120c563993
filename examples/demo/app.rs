//! Puts the application together: routes inside, then the layers that they need, the outermost last.

use axum::{
    Router,
    http::{StatusCode, header},
    middleware,
    response::IntoResponse,
    routing::{MethodRouter, get, post},
};
use axum_login::{AuthManagerLayerBuilder, AuthSession};
use maud::html;
use session_refresh::{LifetimeLayer, RefreshLayer, keep_alive::KeepAlive, store::Touch};
use time::Duration;
use tower_sessions::{Expiry, SessionManagerLayer, SessionStore, cookie::SameSite};

use crate::{cart, compare, console, login, pages, status, users::Backend, view};

/// How long a session lasts without a refresh: short, so that it can be seen to end.
pub const SESSION_LIFETIME: Duration = Duration::seconds(90);

/// The same for somebody who has asked to be remembered.
pub const REMEMBERED: Duration = Duration::minutes(10);

/// How long a session lasts after the login, however active its user is.
pub const MAX_LIFETIME: Duration = Duration::minutes(30);

/// The same for a superuser.
pub const MAX_LIFETIME_OF_SUPERUSERS: Duration = Duration::minutes(5);

const CSS: &str = "text/css; charset=utf-8";
const JS: &str = "text/javascript; charset=utf-8";

/// The application behind the login, with its sessions in `store`.
pub fn router<S: Touch + SessionStore + Clone>(store: S) -> Router {
    let sessions = LifetimeLayer::new(store, |store| {
        let sessions = SessionManagerLayer::new(store)
            // Browsers return a `Secure` cookie over https only, and this runs on plain http. Never do so on a network.
            .with_secure(false)
            .with_same_site(SameSite::Lax)
            .with_expiry(Expiry::OnInactivity(SESSION_LIFETIME));
        AuthManagerLayerBuilder::new(Backend, sessions).build()
    })
    .with_max_lifetime(MAX_LIFETIME);

    Router::new()
        .route("/dashboard", get(pages::dashboard))
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
        .merge(
            KeepAlive::new("/keep-alive")
                .with_warning(Duration::MINUTE)
                .router(),
        )
        .layer(
            RefreshLayer::new()
                .user::<AuthSession<Backend>>()
                .info_in_response(),
        )
        .layer(middleware::from_fn(console::tell))
        .layer(sessions)
        // What has nothing to do with a session stays outside: no look-up is spent on it.
        .route("/", get(compare::index))
        .route(
            "/static/demo.css",
            file(CSS, include_str!("static/demo.css")),
        )
        .route("/static/demo.js", file(JS, include_str!("static/demo.js")))
        .route(
            "/static/compare.js",
            file(JS, include_str!("static/compare.js")),
        )
        .fallback(not_found)
}

/// A file that is part of the program.
fn file(content_type: &'static str, text: &'static str) -> MethodRouter {
    get(async move || ([(header::CONTENT_TYPE, content_type)], text))
}

async fn not_found() -> impl IntoResponse {
    let text = html! { p { "There is no such page." } };
    (StatusCode::NOT_FOUND, view::notice("Not found", &text))
}
