use session_refresh::session_refresh;

#[session_refresh(interval = "24h, 5min")]
async fn handler() {}

fn main() {}
