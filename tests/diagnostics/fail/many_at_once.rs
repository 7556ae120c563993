//! Each at its own tokens, and the handler is still there.

use session_refresh::session_refresh;

#[session_refresh(
    interval = "24",
    skip_staf,
    skip_superuser = "x",
    skip_paths("static"),
    key = "",
)]
async unsafe fn handler() {}

fn main() {
    let _ = handler;
}
