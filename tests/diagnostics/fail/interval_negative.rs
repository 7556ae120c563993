use session_refresh::session_refresh;

#[session_refresh(interval = "-1h")]
async fn handler() {}

fn main() {}
