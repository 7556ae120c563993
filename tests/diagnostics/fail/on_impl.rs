use session_refresh::session_refresh;

struct Handlers;

#[session_refresh]
impl Handlers {
    async fn handler() {}
}

fn main() {}
