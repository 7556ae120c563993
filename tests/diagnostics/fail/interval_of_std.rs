//! `std::time::Duration` is another type.

use session_refresh::session_refresh;

#[session_refresh(interval = std::time::Duration::from_secs(60))]
async fn handler() {}

fn main() {}
