use session_refresh::session_refresh;

#[session_refresh(crate = session_refrsh)]
async fn handler() {}

fn main() {}
