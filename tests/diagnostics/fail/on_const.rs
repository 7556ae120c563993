use session_refresh::session_refresh;

#[session_refresh]
const HANDLER: () = ();

fn main() {}
