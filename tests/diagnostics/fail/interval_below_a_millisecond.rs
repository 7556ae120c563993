use session_refresh::session_refresh;

#[session_refresh(interval = "999us")]
async fn handler() {}

fn main() {}
