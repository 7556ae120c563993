use session_refresh::session_refresh;

#[session_refresh]
const fn handler() {}

fn main() {}
