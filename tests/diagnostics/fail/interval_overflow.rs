use session_refresh::session_refresh;

#[session_refresh(interval = "999999999999999999 years")]
async fn handler() {}

fn main() {}
