//! One mistake in the attribute is one error: the router still knows the handler.

use axum::{Router, routing::get};
use session_refresh::session_refresh;

#[session_refresh(interval = "1 fortnight")]
async fn handler() {}

fn main() {
    let _: Router = Router::new().route("/", get(handler));
}
