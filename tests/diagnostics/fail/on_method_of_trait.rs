use session_refresh::session_refresh;

trait App {
    #[session_refresh]
    async fn handler(self: Box<Self>) -> String;
}

fn main() {}
