use session_refresh::session_refresh;

#[session_refresh]
static HANDLER: () = ();

fn main() {}
