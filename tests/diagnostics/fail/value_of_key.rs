//! A constant for a string.

use session_refresh::session_refresh;

#[session_refresh(key = KEY)]
async fn handler() {}

fn main() {}
