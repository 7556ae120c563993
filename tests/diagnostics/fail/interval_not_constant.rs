use session_refresh::session_refresh;

fn interval() -> time::Duration {
    time::Duration::HOUR
}

#[session_refresh(interval = interval())]
async fn handler() {}

fn main() {}
