//! A path where a word belongs.

use session_refresh::session_refresh;

#[session_refresh(session::interval = "24h")]
async fn handler() {}

fn main() {}
