use session_refresh::session_refresh;

#[session_refresh]
fn handler() {}

fn main() {}
