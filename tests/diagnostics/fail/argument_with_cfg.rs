use session_refresh::session_refresh;

#[session_refresh]
async fn handler(#[cfg(test)] _: axum::http::Uri) {}

fn main() {}
