//! SQLite.

use std::{fmt, sync::Arc};

use axum::BoxError;
use time::OffsetDateTime;

use super::{
    release::{OwnStore, Record, RecordRef, SessionId, StoreError, session_store},
    sql::{
        BUSY, ErrorKind, NOT_DUE, PAGE, Pool, SHORTENED, Statements, Table, Value, checked_name,
        parameters, sql_store,
    },
    touch::{EncodedLoad, FirstTouch, Touch, Touched},
};
use crate::{schedule::Millis, session::for_each_release};

/// A pool of connections to SQLite: sqlx's `SqlitePool`, of either of its releases that are enabled.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a pool of connections to SQLite that this build knows",
    note = "`SqliteStore` takes the `SqlitePool` of sqlx 0.8 (feature `sqlite`) or 0.9 (feature `sqlite-sqlx-0_9`)"
)]
pub trait SqlitePool: Pool {}

#[cfg(feature = "sqlite")]
impl SqlitePool for sqlx::SqlitePool {}

#[cfg(feature = "sqlite-sqlx-0_9")]
impl SqlitePool for sqlx_0_9::SqlitePool {}

/// SQLite, with tower-sessions-sqlx-store's table and records: an application can change to it and back, and nobody is logged
/// out. A store of both releases of tower-sessions, on sqlx 0.8 or, with the feature `sqlite-sqlx-0_9`, 0.9.
///
/// ```no_run
/// # #[cfg(feature = "sqlite")]
/// # async fn f() -> Result<(), Box<dyn std::error::Error>> {
/// use std::time::Duration;
///
/// use session_refresh::{LifetimeLayer, store::SqliteStore};
/// use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
/// use tower_sessions::SessionManagerLayer;
///
/// let options = SqliteConnectOptions::new()
///     .filename("app.sqlite3")
///     .create_if_missing(true)
///     .journal_mode(SqliteJournalMode::Wal)
///     .synchronous(SqliteSynchronous::Normal);
/// let store = SqliteStore::new(sqlx::SqlitePool::connect_with(options).await?);
/// store.migrate().await?;
/// tokio::spawn(store.clone().continuously_delete_expired(Duration::from_secs(3600)));
/// let sessions = LifetimeLayer::new(store, |store| SessionManagerLayer::new(store));
/// # let _: axum::Router = axum::Router::new().layer(sessions); Ok(()) }
/// ```
///
/// SQLite has one writer at a time. With a write-ahead log (`journal_mode = wal`) readers do not wait for it, and with
/// `synchronous = normal`, safe in that mode, a commit does not wait for the disk; a power failure may then lose the last
/// commits. A touch writes one page of the file, however large the session.
#[derive(Clone)]
pub struct SqliteStore<P> {
    table: Table<P>,
    touch: Arc<str>,
    why_not: Arc<str>,
}

/// As far as its functions for times go.
const LATEST: Millis = Millis::LATEST;

/// As SQLite reads it, and always as long: what has the same length is written in place, and a session's other pages are
/// left alone.
pub(super) fn fixed_width(milliseconds: i64) -> String {
    // Of years with four digits.
    let time = Millis::clamp(milliseconds.max(0)).min(LATEST);
    let time = OffsetDateTime::from(time);
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z",
        time.year(),
        u8::from(time.month()),
        time.day(),
        time.hour(),
        time.minute(),
        time.second(),
        time.millisecond(),
    )
}

/// Upstream writes times as text of varying length. As text, `…43.5Z` would come before `…43Z`. What SQLite would round to the
/// year 10000 is the last millisecond before that.
const EXPIRY: &str = "coalesce(julianday(expiry_date), case when expiry_date like '9999-12-31%' then 5373484.499999988 end)";
/// The time when the statement runs, which is after it has waited for the file.
const NOW: &str = "julianday('now')";

fn statements(table: &str) -> Statements {
    let ids = parameters(|_| "?".into());
    Statements {
        load: format!("select cast(round(({EXPIRY} - 2440587.5) * 86400000.0) as integer), data from {table} where id = ? and {EXPIRY} > {NOW}").into(),
        expiry: Millis::clamp,
        create: format!(
            "insert into {table} (id, data, expiry_date) values (?, ?, ?) on conflict (id) do nothing"
        )
        .into(),
        update: format!("update {table} set data = ?, expiry_date = ? where id = ? and {EXPIRY} > {NOW}").into(),
        update_passively: format!(
            "update {table} set data = ?1, \
             expiry_date = case when {EXPIRY} > julianday(?2) then expiry_date else ?2 end \
             where id = ?3 and {EXPIRY} > {NOW}"
        )
        .into(),
        replace: format!(
            "update {table} set data = ?, expiry_date = ? where id = ? and data = ? and {EXPIRY} > {NOW}"
        )
        .into(),
        delete: format!("delete from {table} where id = ?").into(),
        // What is no time is nothing that has ended.
        page: format!(
            "select coalesce({EXPIRY} <= {NOW}, 0), cast(id as blob) from {table} where id > ? order by id limit {PAGE}"
        )
        .into(),
        delete_ended: format!("delete from {table} where id in ({ids}) and {EXPIRY} <= {NOW}").into(),
    }
}

impl<P: SqlitePool> SqliteStore<P> {
    /// Sessions in the table `tower_sessions`.
    #[must_use]
    pub fn new(pool: P) -> Self {
        Self::in_table(pool, "tower_sessions")
    }

    fn in_table(pool: P, table: &str) -> Self {
        let name = format!(r#""{table}""#);
        let is_as_seen = format!("{EXPIRY} >= julianday(?2)");
        let is_due = format!("{EXPIRY} <= julianday(?3) and {EXPIRY} < julianday(?4)");
        Self {
            touch: format!(
                "update {name} set expiry_date = ?4 \
                 where id = ?1 and {is_as_seen} and {is_due} and {EXPIRY} > {NOW}"
            )
            .into(),
            why_not: format!(
                "select case when not ({is_due}) then {NOT_DUE} when {is_as_seen} then {BUSY} else {SHORTENED} end, x'' \
                 from {name} where id = ?1 and {EXPIRY} > {NOW}"
            )
            .into(),
            table: Table::new(pool, "SqliteStore", statements(&name), name),
        }
    }

    /// Sessions in another table.
    ///
    /// # Errors
    /// If the name is not made of letters, digits, underscores and dollar signs, or begins with a digit or a dollar sign.
    pub fn with_table_name(self, table: impl AsRef<str>) -> Result<Self, String> {
        let table = checked_name("table", table.as_ref())?;
        Ok(Self::in_table(self.table.pool, table))
    }

    /// Creates the table unless it exists.
    ///
    /// # Errors
    /// If the file can't be written.
    pub async fn migrate(&self) -> Result<(), P::Error> {
        let Table { pool, name, .. } = &self.table;
        let create = format!(
            "create table if not exists {name} (
                id text primary key not null,
                data blob not null,
                expiry_date integer not null
            )"
        );
        pool.execute(&create.into(), &[]).await.map(drop)
    }

    async fn touch_row(
        &self,
        id: &str,
        [from, to, expiry]: [Value<'_>; 3],
    ) -> Result<Touched, P::Error> {
        let Self {
            table,
            touch,
            why_not,
        } = self;
        let values = [Value::Text(id), from, to, expiry];
        table.touch(touch, &values, why_not, &values).await
    }
}

sql_store!(SqliteStore, SqlitePool);
