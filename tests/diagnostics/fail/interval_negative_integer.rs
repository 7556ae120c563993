use session_refresh::session_refresh;

#[session_refresh(interval = -3600)]
async fn handler() {}

fn main() {}
