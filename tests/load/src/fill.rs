//! Sessions by the million, where the stores keep them.

use fred::prelude::{ClientLike as _, Config, KeysInterface as _, Pool};
use session_refresh::store::RedisStore;
use tokio::task::JoinSet;
use tower_sessions::{SessionStore as _, session::Record};

use crate::url;

/// How many are written at once.
const BATCH: usize = 5_000;

/// A pool of five connections to Redis.
///
/// # Panics
/// If it does not answer.
pub async fn redis() -> Pool {
    let config = Config::from_url(&url("REDIS_URL")).expect("it is a URL");
    let pool = Pool::new(config, None, None, None, 5).expect("a pool of five");
    pool.init().await.expect("Redis answers");
    pool
}

/// A pool of five connections to PostgreSQL.
///
/// # Panics
/// If it does not answer.
pub async fn postgres() -> sqlx::PgPool {
    sqlx::postgres::PgPoolOptions::new()
        .max_connections(5)
        .connect(&url("POSTGRES_URL"))
        .await
        .expect("PostgreSQL answers")
}

/// Puts records where the stores find them.
///
/// # Panics
/// If the store does not take them.
pub async fn fill(store: &str, mut records: impl Iterator<Item = Record>) {
    if store == "redis" {
        let store = RedisStore::new(redis().await);
        loop {
            let batch: Vec<_> = records.by_ref().take(BATCH).collect();
            if batch.is_empty() {
                return;
            }
            let mut creations = JoinSet::new();
            for mut record in batch {
                let store = store.clone();
                creations.spawn(async move { store.create(&mut record).await });
            }
            while let Some(created) = creations.join_next().await {
                created
                    .expect("nothing panics")
                    .expect("Redis takes a session");
            }
        }
    }
    let pool = postgres().await;
    loop {
        let (mut ids, mut data, mut expiries) = (Vec::new(), Vec::new(), Vec::new());
        for record in records.by_ref().take(BATCH) {
            ids.push(record.id.to_string());
            data.push(rmp_serde::to_vec(&record).expect("a record can be encoded"));
            expiries.push(record.expiry_date);
        }
        if ids.is_empty() {
            return;
        }
        sqlx::query("insert into tower_sessions.session (id, data, expiry_date) select * from unnest($1, $2, $3)")
            .bind(ids)
            .bind(data)
            .bind(expiries)
            .execute(&pool)
            .await
            .expect("PostgreSQL takes them");
    }
}

/// Removes sessions again.
///
/// # Panics
/// If the store refuses.
pub async fn remove(store: &str, ids: &[String]) {
    if store == "redis" {
        let pool = redis().await;
        for ids in ids.chunks(10_000) {
            let () = pool.del(ids.to_vec()).await.expect("Redis removes them");
        }
    } else {
        sqlx::query("delete from tower_sessions.session where id = any($1)")
            .bind(ids)
            .execute(&postgres().await)
            .await
            .expect("PostgreSQL removes them");
    }
}
