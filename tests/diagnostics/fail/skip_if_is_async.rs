use session_refresh::session_refresh;

async fn is_asset(parts: &axum::http::request::Parts) -> bool {
    parts.uri.path().is_empty()
}

#[session_refresh(skip_if = is_asset)]
async fn handler() {}

fn main() {}
