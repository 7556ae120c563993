//! What `README.md` shows, word for word: a test compares them.

// region: application
use axum::{Router, routing::get};
use session_refresh::{LifetimeLayer, RefreshInfo, session_refresh, store::SqliteStore};
use time::Duration;
use tower_sessions::{Expiry, SessionManagerLayer};

#[session_refresh(interval = "24h")]
async fn dashboard(refresh: RefreshInfo) -> String {
    format!("{refresh:#?}")
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let store = SqliteStore::new(sqlx::SqlitePool::connect("sqlite:app.sqlite3?mode=rwc").await?);
    store.migrate().await?;
    let sessions = LifetimeLayer::new(store, |store| {
        SessionManagerLayer::new(store).with_expiry(Expiry::OnInactivity(Duration::days(14)))
    });
    let app = Router::new().route("/", get(dashboard)).layer(sessions);
    axum::serve(tokio::net::TcpListener::bind("127.0.0.1:3000").await?, app).await?;
    Ok(())
}
// endregion
