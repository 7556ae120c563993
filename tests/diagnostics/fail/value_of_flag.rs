//! A flag with something that is no `true` or `false`.

use session_refresh::session_refresh;

#[session_refresh(skip_staff = "yes", skip_superuser = 1, skip_unauthenticated =)]
async fn handler() {}

fn main() {}
