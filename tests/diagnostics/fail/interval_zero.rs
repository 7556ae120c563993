use session_refresh::session_refresh;

#[session_refresh(interval = "0s")]
async fn handler() {}

fn main() {}
