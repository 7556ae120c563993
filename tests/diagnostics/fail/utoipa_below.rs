use session_refresh::session_refresh;

/// Stands in for the crate of this name, which takes long to build: the attribute goes by the name.
mod utoipa {
    pub use tracing::instrument as path;
}

#[session_refresh]
#[utoipa::path(skip_all)]
async fn handler() {}

fn main() {}
