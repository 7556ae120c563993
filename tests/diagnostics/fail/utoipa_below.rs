use session_refresh::session_refresh;

/// Stands for utoipa: any attribute will do, since its name is what is seen.
mod utoipa {
    pub use axum::debug_handler as path;
}

#[session_refresh]
#[utoipa::path]
async fn handler() {}

fn main() {}
