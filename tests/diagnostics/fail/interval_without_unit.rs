use session_refresh::session_refresh;

#[session_refresh(interval = "24")]
async fn handler() {}

fn main() {}
