use session_refresh::session_refresh;

#[session_refresh(interval = 0)]
async fn handler() {}

fn main() {}
