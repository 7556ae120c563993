use session_refresh::session_refresh;

#[session_refresh]
trait Handlers {
    async fn handler();
}

fn main() {}
