//! The interval without its word.

use session_refresh::session_refresh;

#[session_refresh("24h")]
async fn handler() {}

fn main() {}
