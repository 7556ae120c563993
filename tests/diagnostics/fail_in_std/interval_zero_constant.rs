//! Found by the compiler, even where the handler is not routed.

use session_refresh::session_refresh;

#[session_refresh(interval = time::Duration::ZERO)]
async fn handler() {}

fn main() {}
