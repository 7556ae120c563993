use axum::{Router, routing::get};
use session_refresh::{RefreshInfo, session_refresh};

#[session_refresh(interval = "24h")]
async fn handler(refresh: RefreshInfo) -> String {
    refresh.outcome.to_string().
}

fn main() {
    let _: Router = Router::new().route("/", get(handler));
}
