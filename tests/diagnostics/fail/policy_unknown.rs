use session_refresh::session_refresh;

#[session_refresh(policy = SENSITVE)]
async fn handler() {}

fn main() {}
