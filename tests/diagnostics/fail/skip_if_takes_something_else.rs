use session_refresh::session_refresh;

fn is_asset(path: &str) -> bool {
    path.is_empty()
}

#[session_refresh(skip_if = is_asset)]
async fn handler() {}

fn main() {}
