//! Seconds without their word.

use session_refresh::session_refresh;

#[session_refresh(3600)]
async fn handler() {}

fn main() {}
