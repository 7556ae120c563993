use session_refresh::session_refresh;

#[session_refresh(interval = true)]
async fn handler() {}

fn main() {}
