//! No comma between two options.

use session_refresh::session_refresh;

#[session_refresh(skip_staff skip_superuser)]
async fn handler() {}

fn main() {}
