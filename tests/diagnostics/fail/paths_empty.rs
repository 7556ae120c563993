use session_refresh::session_refresh;

#[session_refresh(skip_paths())]
async fn handler() {}

fn main() {}
