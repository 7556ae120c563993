use session_refresh::session_refresh;

#[session_refresh]
async fn handler(
    _: axum::http::Method,
    _: axum::http::Method,
    _: axum::http::Method,
    _: axum::http::Method,
    _: axum::http::Method,
    _: axum::http::Method,
    _: axum::http::Method,
    _: axum::http::Method,
    _: axum::http::Method,
    _: axum::http::Method,
    _: axum::http::Method,
    _: axum::http::Method,
    _: axum::http::Method,
    _: axum::http::Method,
    _: axum::http::Method,
    _: axum::http::Method,
    _: axum::http::Method,
) {}

fn main() {}
