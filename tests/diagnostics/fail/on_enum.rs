use session_refresh::session_refresh;

#[session_refresh]
enum Handler {}

fn main() {}
