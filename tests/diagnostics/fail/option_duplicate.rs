//! The same word twice.

use session_refresh::session_refresh;

#[session_refresh(skip_staff, interval = "24h", skip_staff = false)]
async fn handler() {}

fn main() {}
