use session_refresh::session_refresh;

#[session_refresh(interval = "24h")]
#[session_refresh(skip_staff)]
async fn handler() {}

fn main() {}
