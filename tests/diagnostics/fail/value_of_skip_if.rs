//! A closure instead of a function's path.

use session_refresh::session_refresh;

#[session_refresh(skip_if = |parts| parts.uri.path().is_empty())]
async fn handler() {}

fn main() {}
