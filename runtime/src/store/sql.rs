//! The SQL stores: upstream's tables and records, and an expiry that moves alone.
//!
//! Upstream keeps a second copy of the expiry inside the record. Only the column counts there, as here; a touch leaves
//! the copy behind, and `load` reports the column.

use std::sync::Arc;

use sqlx::Row as _;
use time::OffsetDateTime;
use tower_sessions_sqlx_store as upstream;

use axum::BoxError;
use tower_sessions::{
    ExpiredDeletion, SessionStore,
    session::{Id, Record},
    session_store::{Error, Result},
};

use super::{
    encoded,
    release::{SessionId, StoreError},
    touch::{EncodedLoad, FirstTouch, Touch, Touched},
};

/// A store's statements, its table's name filled in.
#[derive(Debug)]
struct Statements {
    /// id, now → data, expiry.
    load: String,
    /// data, expiry, id, now.
    update: String,
    /// data, expiry, id, data as it was, now.
    replace: String,
    /// expiry, id, due before, expiry, now.
    touch: String,
    /// id, now.
    exists: String,
}

#[allow(clippy::needless_pass_by_value)] // As `map_err` passes it.
fn backend(error: sqlx::Error) -> Error {
    Error::Backend(error.to_string())
}

/// What differs between the databases is how a time is written and compared: `$column` and `$time`.
macro_rules! sql_store {
    (
        $(#[$attr:meta])*
        $store:ident, $feature:literal, $pool:ty, $parameter:expr, $column:literal, $time:literal
    ) => {
        $(#[$attr])*
        #[cfg(feature = $feature)]
        #[cfg_attr(docsrs, doc(cfg(feature = $feature)))]
        #[derive(Clone, Debug)]
        pub struct $store {
            pool: $pool,
            upstream: upstream::$store,
            statements: Arc<Statements>,
        }

        #[cfg(feature = $feature)]
        impl $store {
            /// Creates the table unless it exists.
            ///
            /// # Errors
            /// If the database can't be reached or refuses.
            pub async fn migrate(&self) -> sqlx::Result<()> {
                self.upstream.migrate().await
            }

            fn with(pool: $pool, upstream: upstream::$store, table: &str) -> Self {
                let parameter: fn(usize) -> String = $parameter;
                // The n-th parameter, and the same as a time that can be compared.
                let p = |n| parameter(n);
                let t = |n| $time.replace("{}", &parameter(n));
                let expiry = $column;
                let statements = Statements {
                    load: format!(
                        "select data, expiry_date from {table} where id = {} and {expiry} > {}",
                        p(1), t(2),
                    ),
                    update: format!(
                        "update {table} set data = {}, expiry_date = {} where id = {} and {expiry} > {}",
                        p(1), p(2), p(3), t(4),
                    ),
                    replace: format!(
                        "update {table} set data = {}, expiry_date = {} where id = {} and data = {} and {expiry} > {}",
                        p(1), p(2), p(3), p(4), t(5),
                    ),
                    touch: format!(
                        "update {table} set expiry_date = {} where id = {} and {expiry} <= {} and {expiry} < {} and {expiry} > {}",
                        p(1), p(2), t(3), t(4), t(5),
                    ),
                    exists: format!("select 1 from {table} where id = {} and {expiry} > {}", p(1), t(2)),
                };
                Self { pool, upstream, statements: Arc::new(statements) }
            }

            /// A live record's bytes, and when it expires.
            async fn get(&self, id: SessionId) -> Result<Option<(Vec<u8>, OffsetDateTime)>> {
                let row = sqlx::query(&self.statements.load)
                    .bind(id.to_string())
                    .bind(OffsetDateTime::now_utc())
                    .fetch_optional(&self.pool)
                    .await
                    .map_err(backend)?;
                let Some(row) = row else { return Ok(None) };
                let bytes = row.try_get(0).map_err(backend)?;
                Ok(Some((bytes, row.try_get(1).map_err(backend)?)))
            }
        }

        #[cfg(feature = $feature)]
        #[async_trait::async_trait]
        impl SessionStore for $store {
            async fn create(&self, record: &mut Record) -> Result<()> {
                self.upstream.create(record).await
            }

            async fn save(&self, record: &Record) -> Result<()> {
                let data = rmp_serde::to_vec(record).map_err(|error| Error::Encode(error.to_string()))?;
                sqlx::query(&self.statements.update)
                    .bind(data)
                    .bind(record.expiry_date)
                    .bind(record.id.to_string())
                    .bind(OffsetDateTime::now_utc())
                    .execute(&self.pool)
                    .await
                    .map_err(backend)?;
                Ok(())
            }

            async fn load(&self, id: &Id) -> Result<Option<Record>> {
                let Some((bytes, expiry_date)) = self.get((*id).into()).await? else {
                    return Ok(None);
                };
                let record = encoded::read(&bytes, Some(expiry_date))?;
                Ok(Some(record.into()))
            }

            async fn delete(&self, id: &Id) -> Result<()> {
                self.upstream.delete(id).await
            }
        }

        #[cfg(feature = $feature)]
        #[async_trait::async_trait]
        impl ExpiredDeletion for $store {
            async fn delete_expired(&self) -> Result<()> {
                self.upstream.delete_expired().await
            }
        }

        #[cfg(feature = $feature)]
        impl Touch for $store {
            async fn touch(
                &self,
                id: SessionId,
                due_before: OffsetDateTime,
                expiry: OffsetDateTime,
            ) -> std::result::Result<Touched, BoxError> {
                let id = id.to_string();
                let now = OffsetDateTime::now_utc();
                let touched = sqlx::query(&self.statements.touch)
                    .bind(expiry)
                    .bind(&id)
                    .bind(due_before)
                    .bind(expiry)
                    .bind(now)
                    .execute(&self.pool)
                    .await?;
                if touched.rows_affected() != 0 {
                    return Ok(Touched::Done);
                }
                let exists = sqlx::query(&self.statements.exists)
                    .bind(&id)
                    .bind(now)
                    .fetch_optional(&self.pool)
                    .await?;
                Ok(if exists.is_some() { Touched::NotDue } else { Touched::Gone })
            }

            async fn touch_first(
                &self,
                touch: FirstTouch,
            ) -> std::result::Result<Option<Touched>, BoxError> {
                let Some((bytes, expiry_date)) = self.get(touch.id).await? else {
                    return Ok(Some(Touched::Gone));
                };
                let record = match encoded::touched_first(&bytes, Some(expiry_date), &touch)? {
                    Ok(record) => Record::from(record),
                    Err(touched) => return Ok(Some(touched)),
                };
                let replaced = sqlx::query(&self.statements.replace)
                    .bind(rmp_serde::to_vec(&record)?)
                    .bind(touch.expiry)
                    .bind(touch.id.to_string())
                    .bind(bytes)
                    .bind(OffsetDateTime::now_utc())
                    .execute(&self.pool)
                    .await?;
                // Else somebody has just written the session.
                let is_replaced = replaced.rows_affected() != 0;
                Ok(Some(if is_replaced { Touched::Done } else { Touched::NotDue }))
            }

            async fn load_encoded(
                &self,
                id: SessionId,
            ) -> std::result::Result<EncodedLoad, StoreError> {
                Ok(match self.get(id).await? {
                    None => EncodedLoad::Absent,
                    Some((bytes, expiry_date)) => {
                        EncodedLoad::Found { bytes, expiry_date: Some(expiry_date) }
                    }
                })
            }
        }
    };
}

sql_store!(
    /// SQLite, with tower-sessions-sqlx-store's table and records: an application can change to it and back, and nobody
    /// is logged out.
    ///
    /// ```no_run
    /// # async fn f() -> Result<(), Box<dyn std::error::Error>> {
    /// use session_refresh::{LifetimeLayer, store::SqliteStore};
    /// use tower_sessions::SessionManagerLayer;
    ///
    /// let pool = sqlx::SqlitePool::connect("sqlite:app.sqlite3").await?;
    /// let store = SqliteStore::new(pool);
    /// store.migrate().await?;
    /// let sessions = LifetimeLayer::new(store, |store| SessionManagerLayer::new(store));
    /// # let _: axum::Router = axum::Router::new().layer(sessions); Ok(()) }
    /// ```
    SqliteStore, "sqlite", sqlx::SqlitePool, |_| "?".into(),
    // Upstream writes times as text of varying length. As text, `…43.5Z` would come before `…43Z`.
    "julianday(expiry_date)", "julianday({})"
);

sql_store!(
    /// PostgreSQL, with tower-sessions-sqlx-store's table and records: an application can change to it and back, and
    /// nobody is logged out.
    ///
    /// ```no_run
    /// # async fn f() -> Result<(), Box<dyn std::error::Error>> {
    /// use session_refresh::{LifetimeLayer, store::PostgresStore};
    /// use tower_sessions::SessionManagerLayer;
    ///
    /// let pool = sqlx::PgPool::connect("postgres://localhost/app").await?;
    /// let store = PostgresStore::new(pool);
    /// store.migrate().await?;
    /// let sessions = LifetimeLayer::new(store, |store| SessionManagerLayer::new(store));
    /// # let _: axum::Router = axum::Router::new().layer(sessions); Ok(()) }
    /// ```
    PostgresStore, "postgres", sqlx::PgPool, |n| format!("${n}"), "expiry_date", "{}"
);

sql_store!(
    /// MySQL or MariaDB, with tower-sessions-sqlx-store's table and records: an application can change to it and back,
    /// and nobody is logged out.
    ///
    /// Upstream's column is a `blob`: a session holds at most 65,535 bytes, and saving a larger one is an error.
    ///
    /// ```no_run
    /// # async fn f() -> Result<(), Box<dyn std::error::Error>> {
    /// use session_refresh::{LifetimeLayer, store::MySqlStore};
    /// use tower_sessions::SessionManagerLayer;
    ///
    /// let pool = sqlx::MySqlPool::connect("mysql://localhost/app").await?;
    /// let store = MySqlStore::new(pool);
    /// store.migrate().await?;
    /// let sessions = LifetimeLayer::new(store, |store| SessionManagerLayer::new(store));
    /// # let _: axum::Router = axum::Router::new().layer(sessions); Ok(()) }
    /// ```
    MySqlStore, "mysql", sqlx::MySqlPool, |_| "?".into(), "expiry_date", "{}"
);

#[cfg(feature = "sqlite")]
impl SqliteStore {
    /// Sessions in the table `tower_sessions`.
    #[must_use]
    pub fn new(pool: sqlx::SqlitePool) -> Self {
        let upstream = upstream::SqliteStore::new(pool.clone());
        Self::with(pool, upstream, "tower_sessions")
    }

    /// Sessions in another table, of ASCII letters, digits and underscores. Upstream lets a hyphen pass, too, but does not
    /// quote it.
    ///
    /// # Errors
    /// If the name has any other character, or none.
    pub fn with_table_name(self, table: impl AsRef<str>) -> std::result::Result<Self, String> {
        let table = table.as_ref();
        let upstream = self.upstream.with_table_name(table)?;
        Ok(Self::with(self.pool, upstream, table))
    }
}

/// The stores whose table lies in a schema: its name and the table's, quoted by `$quote`.
macro_rules! in_a_schema {
    ($store:ident, $feature:literal, $pool:ty, $quote:literal) => {
        #[cfg(feature = $feature)]
        impl $store {
            /// Sessions in the table `session` of the schema `tower_sessions`.
            #[must_use]
            pub fn new(pool: $pool) -> Self {
                let upstream = upstream::$store::new(pool.clone());
                Self::with(
                    pool,
                    upstream,
                    concat!(
                        $quote,
                        "tower_sessions",
                        $quote,
                        ".",
                        $quote,
                        "session",
                        $quote
                    ),
                )
            }

            /// Sessions in another table.
            ///
            /// # Errors
            /// If one of the names is not made of letters, digits, underscores and dollar signs, or begins with a digit or
            /// a dollar sign.
            pub fn with_table_name(
                self,
                schema: impl AsRef<str>,
                table: impl AsRef<str>,
            ) -> std::result::Result<Self, String> {
                let (schema, table) = (schema.as_ref(), table.as_ref());
                let upstream = self
                    .upstream
                    .with_schema_name(schema)?
                    .with_table_name(table)?;
                let quote = $quote;
                let table = format!("{quote}{schema}{quote}.{quote}{table}{quote}");
                Ok(Self::with(self.pool, upstream, &table))
            }
        }
    };
}

in_a_schema!(PostgresStore, "postgres", sqlx::PgPool, "\"");
in_a_schema!(MySqlStore, "mysql", sqlx::MySqlPool, "`");
