use session_refresh::session_refresh;

#[session_refresh(interval = "1.5h")]
async fn handler() {}

fn main() {}
