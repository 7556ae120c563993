//! Seen where the handler meets a router and its state.

use axum::{Router, routing::get};
use session_refresh::{SessionUser, session_refresh};

struct User;

impl SessionUser for User {}

#[session_refresh(user = User)]
async fn handler() {}

fn main() {
    let _: Router = Router::new().route("/", get(handler));
}
