use session_refresh::session_refresh;

#[session_refresh(skip_paths("/static/", "media/", ""))]
async fn handler() {}

fn main() {}
