use session_refresh::session_refresh;

#[session_refresh]
extern "C" fn handler() {}

fn main() {}
