use session_refresh::session_refresh;

#[session_refresh]
mod handlers {
    pub async fn handler() {}
}

fn main() {}
