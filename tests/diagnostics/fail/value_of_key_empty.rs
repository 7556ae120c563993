//! An empty session key.

use session_refresh::session_refresh;

#[session_refresh(key = "")]
async fn handler() {}

fn main() {}
