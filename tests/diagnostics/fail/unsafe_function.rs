use session_refresh::session_refresh;

#[session_refresh]
async unsafe fn handler() {}

fn main() {}
