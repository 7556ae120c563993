use session_refresh::session_refresh;

struct App;

impl App {
    #[session_refresh]
    async fn handler(_: axum::extract::State<Self>) {}
}

fn main() {}
