//! The policy of a handler is as visible as the handler, and names the user.

use axum::{Extension, Router, routing::get};
use session_refresh::{SessionUser, session_refresh};

#[derive(Clone)]
pub(crate) struct User;

impl SessionUser for User {}

#[session_refresh(user = Extension<User>)]
pub async fn handler() {}

fn main() {
    let _: Router = Router::new().route("/", get(handler));
}
