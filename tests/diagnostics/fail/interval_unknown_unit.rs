use session_refresh::session_refresh;

#[session_refresh(interval = "24hrz")]
async fn handler() {}

fn main() {}
