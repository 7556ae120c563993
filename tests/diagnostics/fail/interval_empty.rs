use session_refresh::session_refresh;

#[session_refresh(interval = " ")]
async fn handler() {}

fn main() {}
