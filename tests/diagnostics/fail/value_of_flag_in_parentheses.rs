use session_refresh::session_refresh;

#[session_refresh(skip_staff(true))]
async fn handler() {}

fn main() {}
