use session_refresh::session_refresh;

#[session_refresh(interval = 1.5)]
async fn handler() {}

fn main() {}
