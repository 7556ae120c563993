//! Words that need a value, as flags.

use session_refresh::session_refresh;

#[session_refresh(interval, user, policy =, key, skip_if, skip_paths, crate)]
async fn handler() {}

fn main() {}
