use axum::debug_handler;
use session_refresh::session_refresh;

struct Thing;

#[debug_handler]
#[session_refresh]
async fn handler(_: Thing) {}

fn main() {}
