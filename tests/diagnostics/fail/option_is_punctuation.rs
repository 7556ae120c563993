//! No word at all.

use session_refresh::session_refresh;

#[session_refresh(= "24h")]
async fn handler() {}

fn main() {}
