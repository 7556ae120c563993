//! A generic handler's interval is checked, too, unless it depends on what is generic.

use session_refresh::session_refresh;

#[session_refresh(interval = time::Duration::ZERO)]
async fn handler<T: Send>() {}

fn main() {}
