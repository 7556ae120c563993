//! No type.

use session_refresh::session_refresh;

#[session_refresh(user = "User")]
async fn handler() {}

fn main() {}
