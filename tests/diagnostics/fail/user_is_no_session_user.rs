use session_refresh::session_refresh;

struct User;

#[session_refresh(user = User)]
async fn handler() {}

fn main() {}
