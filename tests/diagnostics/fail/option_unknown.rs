//! A word that there is not.

use session_refresh::session_refresh;

#[session_refresh(every = "24h")]
async fn handler() {}

fn main() {}
