use session_refresh::session_refresh;

#[session_refresh(interval = 99999999999999999999)]
async fn handler() {}

fn main() {}
