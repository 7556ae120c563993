//! Where the sessions live: the one place that names a store.

use std::time::Duration;

use axum::Router;
use fred::prelude::{ClientLike as _, Config, Pool};
use session_refresh::store::{MySqlStore, PostgresStore, RedisStore, SqliteStore};
use sqlx::{MySqlPool, PgPool, SqlitePool};

use crate::{app, failure::Failure};

/// How often expired sessions are swept out. They count as gone from the moment they expire.
const SWEEP: Duration = Duration::from_secs(60);

/// The application on the store that `url` names. What is in it stays as tower-sessions' own stores write it.
pub async fn app(url: &str) -> Result<Router, Failure> {
    let scheme = url.split(':').next().unwrap_or_default();
    Ok(match scheme {
        "sqlite" => {
            let store = SqliteStore::new(SqlitePool::connect(url).await?);
            store.migrate().await?;
            // A first sweep at once also shows, before anybody logs in, whether the database can be written.
            store.delete_expired().await?;
            tokio::spawn(store.clone().continuously_delete_expired(SWEEP));
            app::router(store)
        }
        "postgres" | "postgresql" => {
            let store = PostgresStore::new(PgPool::connect(url).await?);
            store.migrate().await?;
            store.delete_expired().await?;
            tokio::spawn(store.clone().continuously_delete_expired(SWEEP));
            app::router(store)
        }
        "mysql" | "mariadb" => {
            let store = MySqlStore::new(MySqlPool::connect(url).await?);
            store.migrate().await?;
            store.delete_expired().await?;
            tokio::spawn(store.clone().continuously_delete_expired(SWEEP));
            app::router(store)
        }
        // Redis sweeps by itself.
        "redis" | "rediss" => {
            let pool = Pool::new(Config::from_url(url)?, None, None, None, 4)?;
            pool.init().await?;
            app::router(RedisStore::new(pool))
        }
        other => return Err(Failure::new(format!("there is no store for {other:?}"))),
    })
}
