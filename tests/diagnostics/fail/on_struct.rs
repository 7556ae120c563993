use session_refresh::session_refresh;

#[session_refresh]
struct Handler;

fn main() {}
