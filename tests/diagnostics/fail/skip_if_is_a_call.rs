use session_refresh::session_refresh;

#[session_refresh(skip_if = is_asset("css"))]
async fn handler() {}

fn main() {}
