//! The smallest application: reload the page and watch the session being refreshed at most every five seconds.

use std::env;

use axum::{Router, http::StatusCode, routing::get};
use session_refresh::{LifetimeLayer, RefreshInfo, session_refresh};
use time::Duration;
use tokio::net::TcpListener;
use tower_sessions::{Expiry, MemoryStore, Session, SessionManagerLayer};

#[session_refresh(interval = "5s")]
async fn index(refresh: RefreshInfo, session: Session) -> Result<String, StatusCode> {
    // Only the first visit writes: a handler that writes each time extends the session each time.
    let visited = session.get::<bool>("visited").await;
    if visited
        .map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?
        .is_none()
    {
        let written = session.insert("visited", true).await;
        written.map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
    }
    Ok(format!("{refresh:#?}\n"))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let sessions = LifetimeLayer::new(MemoryStore::default(), |store| {
        SessionManagerLayer::new(store)
            // Browsers return a `Secure` cookie over https only, some of them even on localhost.
            .with_secure(false)
            .with_expiry(Expiry::OnInactivity(Duration::minutes(1)))
    });
    let app = Router::new().route("/", get(index)).layer(sessions);

    let port = env::var("PORT").unwrap_or_else(|_| String::from("3000"));
    let listener = TcpListener::bind(format!("127.0.0.1:{port}")).await?;
    println!("http://{}", listener.local_addr()?);
    axum::serve(listener, app).await?;
    Ok(())
}
