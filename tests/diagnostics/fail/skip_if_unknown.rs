use session_refresh::session_refresh;

#[session_refresh(skip_if = is_aset)]
async fn handler() {}

fn main() {}
