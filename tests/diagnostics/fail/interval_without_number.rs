use session_refresh::session_refresh;

#[session_refresh(interval = "h")]
async fn handler() {}

fn main() {}
