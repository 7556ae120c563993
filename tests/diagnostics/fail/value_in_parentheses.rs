//! `interval(..)` for `interval = ..`.

use session_refresh::session_refresh;

#[session_refresh(interval("24h"), user(User))]
async fn handler() {}

fn main() {}
