use session_refresh::session_refresh;

#[session_refresh(policy = "SENSITIVE")]
async fn handler() {}

fn main() {}
