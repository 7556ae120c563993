use session_refresh::session_refresh;

#[session_refresh(skip_paths(STATIC))]
async fn handler() {}

fn main() {}
