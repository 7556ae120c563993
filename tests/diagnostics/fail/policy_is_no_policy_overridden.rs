use session_refresh::session_refresh;

const SENSITIVE: u32 = 300;

#[session_refresh(policy = SENSITIVE, interval = "5m")]
async fn handler() {}

fn main() {}
