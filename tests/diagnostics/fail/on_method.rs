use session_refresh::session_refresh;

struct App;

impl App {
    #[session_refresh]
    async fn handler(&self) {}
}

fn main() {}
