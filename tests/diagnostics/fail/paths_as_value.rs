use session_refresh::session_refresh;

#[session_refresh(skip_paths = "/static/")]
async fn handler() {}

fn main() {}
