//! Numbers for Prometheus: reload `/` and `/items/1`, then look at `/metrics`.

use std::{env, time::Duration};

use axum::{Router, http::StatusCode, routing::get};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder};
use session_refresh::{LifetimeLayer, RefreshInfo, session_refresh};
use time::ext::NumericalDuration as _;
use tokio::net::TcpListener;
use tower_sessions::{Expiry, MemoryStore, Session, SessionManagerLayer};

#[session_refresh(interval = "5s")]
async fn item(refresh: RefreshInfo, session: Session) -> Result<String, StatusCode> {
    let visited = session.get::<bool>("visited").await;
    if visited
        .map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?
        .is_none()
    {
        let written = session.insert("visited", true).await;
        written.map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
    }
    Ok(format!("{}\n", refresh.outcome))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let metrics = PrometheusBuilder::new()
        .set_buckets_for_metric(
            Matcher::Suffix("_duration_seconds".into()),
            &[0.0001, 0.001, 0.01, 0.1, 1.0],
        )?
        .install_recorder()?;
    let upkeep = metrics.clone();
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(Duration::from_secs(5)).await;
            upkeep.run_upkeep();
        }
    });

    let sessions = LifetimeLayer::new(MemoryStore::default(), |store| {
        SessionManagerLayer::new(store)
            .with_secure(false)
            .with_expiry(Expiry::OnInactivity(1.minutes()))
    });
    let app = Router::new()
        .route("/", get(item))
        .route("/items/{id}", get(item))
        .layer(sessions)
        .route("/metrics", get(async move || metrics.render()));

    let port = env::var("PORT").unwrap_or_else(|_| String::from("3000"));
    let listener = TcpListener::bind(format!("127.0.0.1:{port}")).await?;
    println!("http://{}", listener.local_addr()?);
    axum::serve(listener, app).await?;
    Ok(())
}
