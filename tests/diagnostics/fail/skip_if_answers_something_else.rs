use session_refresh::session_refresh;

fn is_asset(parts: &axum::http::request::Parts) -> Option<bool> {
    Some(parts.uri.path().is_empty())
}

#[session_refresh(skip_if = is_asset)]
async fn handler() {}

fn main() {}
