use session_refresh::session_refresh;

#[session_refresh(user = Usr)]
async fn handler() {}

fn main() {}
