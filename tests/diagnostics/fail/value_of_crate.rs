//! No path.

use session_refresh::session_refresh;

#[session_refresh(crate = "session_refresh")]
async fn handler() {}

fn main() {}
