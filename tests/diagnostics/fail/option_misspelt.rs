//! A letter is missing.

use session_refresh::session_refresh;

#[session_refresh(skip_superuser, intervall = "24h")]
async fn handler() {}

fn main() {}
