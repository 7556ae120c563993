//! The attribute itself takes no `=`.

use session_refresh::session_refresh;

#[session_refresh = "24h"]
async fn handler() {}

fn main() {}
