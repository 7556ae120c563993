//! Where the sessions live: the one place that names a store.

use std::time::Duration;

use sqlx::SqlitePool;
use tower_sessions::{ExpiredDeletion as _, session_store::Result};
use tower_sessions_sqlx_store::SqliteStore;

pub type Store = SqliteStore;

/// How often expired sessions are swept out. They count as gone from the moment they expire.
const SWEEP: Duration = Duration::from_secs(60);

pub async fn open(pool: SqlitePool) -> Result<Store> {
    let store = SqliteStore::new(pool);
    store
        .migrate()
        .await
        .map_err(|error| tower_sessions::session_store::Error::Backend(error.to_string()))?;
    // A first sweep at once also shows, before anybody logs in, whether the file can be written.
    store.delete_expired().await?;
    tokio::spawn(sweep(store.clone()));
    Ok(store)
}

async fn sweep(store: Store) {
    loop {
        // It ends with the first failure, such as a locked file, which the next sweep may not meet.
        if let Err(error) = store.clone().continuously_delete_expired(SWEEP).await {
            tracing::error!(%error, "expired sessions were not swept out");
        }
    }
}
