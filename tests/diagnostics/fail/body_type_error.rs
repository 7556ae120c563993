//! A mistake of types in the body is reported once, where it is.

use axum::{Router, routing::get};
use session_refresh::{RefreshInfo, session_refresh};

#[session_refresh(interval = "24h")]
async fn handler(refresh: RefreshInfo) -> String {
    refresh.refreshed
}

fn main() {
    let _: Router = Router::new().route("/", get(handler));
}
