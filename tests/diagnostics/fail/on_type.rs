use session_refresh::session_refresh;

#[session_refresh]
type Handler = ();

fn main() {}
