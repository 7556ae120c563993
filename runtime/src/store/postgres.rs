//! PostgreSQL.

use std::{fmt, sync::Arc};

use axum::BoxError;
use time::OffsetDateTime;

use super::{
    release::{OwnStore, Record, RecordRef, SessionId, StoreError, session_store},
    sql::{
        BUSY, ErrorKind, NOT_DUE, PAGE, Pool, SHORTENED, Statements, Table, Value, checked_name,
        in_a_schema, parameters, sql_store,
    },
    touch::{EncodedLoad, FirstTouch, TRIES, Touch, Touched},
};
use crate::{schedule::Millis, session::for_each_release};

/// A pool of connections to PostgreSQL: sqlx's `PgPool`, of either of its releases that are enabled.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a pool of connections to PostgreSQL that this build knows",
    note = "`PostgresStore` takes the `PgPool` of sqlx 0.8 (feature `postgres`) or 0.9 (feature `postgres-sqlx-0_9`)"
)]
pub trait PostgresPool: Pool {}

#[cfg(feature = "postgres")]
impl PostgresPool for sqlx::PgPool {}

#[cfg(feature = "postgres-sqlx-0_9")]
impl PostgresPool for sqlx_0_9::PgPool {}

/// PostgreSQL, with tower-sessions-sqlx-store's table and records: an application can change to it and back, and nobody is
/// logged out. A store of both releases of tower-sessions, on sqlx 0.8 or, with the feature `postgres-sqlx-0_9`, 0.9.
///
/// ```no_run
/// # #[cfg(feature = "postgres")]
/// # async fn f() -> Result<(), Box<dyn std::error::Error>> {
/// use std::time::Duration;
///
/// use session_refresh::{LifetimeLayer, store::PostgresStore};
/// use tower_sessions::SessionManagerLayer;
///
/// let pool = sqlx::PgPool::connect("postgres://localhost/app").await?;
/// let store = PostgresStore::new(pool);
/// store.migrate().await?;
/// tokio::spawn(store.clone().continuously_delete_expired(Duration::from_secs(3600)));
/// let sessions = LifetimeLayer::new(store, |store| SessionManagerLayer::new(store));
/// # let _: axum::Router = axum::Router::new().layer(sessions); Ok(()) }
/// ```
///
/// The server's clock decides whether a session has ended. A touch is one round trip and waits for no lock: while another
/// transaction holds the session's row, somebody is writing the session, and it is not due.
///
/// A touch does not wait for the disk either: it is committed with `synchronous_commit = off`, for its own transaction alone.
/// If the server crashes, the touches of the last moments may be lost (three times `wal_writer_delay`, 0.6 seconds as that is
/// by default). Nothing else is, and these sessions are due again. See
/// [`with_synchronous_commit`](Self::with_synchronous_commit).
#[derive(Clone)]
pub struct PostgresStore<P> {
    table: Table<P>,
    touch: Arc<str>,
    is_synchronous: bool,
}

/// As far as an [`OffsetDateTime`] goes.
const LATEST: Millis = Millis::LATEST;

/// The n-th parameter, milliseconds, as a time. Time zones do not come into it.
fn time(n: usize) -> String {
    format!("(timestamptz 'epoch' + ${n}::bigint * interval '1 millisecond')")
}

/// A time as the server sends it: microseconds since 2000, of which it has none to compute. Infinity is the greatest number.
const EXPIRY: &str = "expiry_date::timestamptz";

/// Another row's time than an `OffsetDateTime` can be is the latest that it can.
fn expiry(microseconds: i64) -> Millis {
    const FROM_1970_TO_2000: i64 = 946_684_800_000;
    Millis::clamp(microseconds.div_euclid(1_000) + FROM_1970_TO_2000).min(LATEST)
}

/// The statement's own time would be that of its beginning, before it has waited.
const IS_LIVE: &str = "expiry_date > clock_timestamp()";

fn statements(table: &str) -> Statements {
    let ids = parameters(|n| format!("${n}"));
    Statements {
        load: format!("select {EXPIRY}, data from {table} where id = $1 and {IS_LIVE}").into(),
        expiry,
        create: format!(
            "insert into {table} (id, data, expiry_date) values ($1, $2, {}) on conflict (id) do nothing",
            time(3)
        )
        .into(),
        update: format!(
            "update {table} set data = $1, expiry_date = {} where id = $3 and {IS_LIVE}",
            time(2)
        )
        .into(),
        update_passively: format!(
            "update {table} set data = $1, expiry_date = greatest(expiry_date, {}) where id = $3 and {IS_LIVE}",
            time(2)
        )
        .into(),
        replace: format!(
            "update {table} set data = $1, expiry_date = {} where id in \
             (select id from {table} where id = $3 and data = $4 and {IS_LIVE} for no key update skip locked)",
            time(2)
        )
        .into(),
        delete: format!("delete from {table} where id = $1").into(),
        page: format!(
            "select (case when {IS_LIVE} then 0 else 1 end)::bigint, convert_to(id, 'UTF8') from {table} \
             where id > $1 order by id limit {PAGE}"
        )
        .into(),
        delete_ended: format!("delete from {table} where id in ({ids}) and not ({IS_LIVE})").into(),
    }
}

/// id, due from and until, expiry → what it did. In one statement, and so in one round trip.
fn touch(table: &str, is_synchronous: bool) -> Arc<str> {
    let (from, to, expiry) = (time(2), time(3), time(4));
    let commit = if is_synchronous {
        "''"
    } else {
        "set_config('synchronous_commit', 'off', true)"
    };
    let is_as_seen = format!("expiry_date >= {from}");
    let is_due = format!("expiry_date <= {to} and expiry_date < {expiry}");
    format!(
        "with due as (
            select id from {table}
            where id = $1 and {is_as_seen} and {is_due} and {IS_LIVE}
            for no key update skip locked
        ), touched as (
            update {table} as session set expiry_date = {expiry} from due where session.id = due.id returning 1
        )
        select coalesce(
            (select {DONE} from touched),
            (
                select case when not ({is_due}) then {NOT_DUE} when {is_as_seen} then {BUSY} else {SHORTENED} end
                from {table} where id = $1 and {IS_LIVE}
            ),
            {GONE}
        )::bigint, ({commit})::bytea"
    )
    .into()
}

const DONE: i64 = 3;
const GONE: i64 = 4;

impl<P: PostgresPool> PostgresStore<P> {
    fn in_table(pool: P, name: String) -> Self {
        Self {
            touch: touch(&name, false),
            is_synchronous: false,
            table: Table::new(pool, "PostgresStore", statements(&name), name),
        }
    }

    fn moved_to(self, name: String) -> Self {
        Self::in_table(self.table.pool, name).with_synchronous_commit(self.is_synchronous)
    }

    /// Whether a touch is on the server's disk before the page is served. Default: it is not, which costs the server a fraction,
    /// and the sessions of a crash's last moments an extension.
    ///
    /// Saves are committed as the server is set up to, whatever this says.
    #[must_use]
    pub fn with_synchronous_commit(mut self, is_synchronous: bool) -> Self {
        self.touch = touch(&self.table.name, is_synchronous);
        self.is_synchronous = is_synchronous;
        self
    }

    /// Creates the schema and the table unless the table exists. Several processes may do so at once.
    ///
    /// # Errors
    /// If the database can't be reached or refuses.
    pub async fn migrate(&self) -> Result<(), P::Error> {
        let Table { pool, name, .. } = &self.table;
        let schema = name.split('.').next().unwrap_or_default();
        let exists = "select (to_regclass($1) is not null)::int::bigint, ''::bytea".into();
        let create_schema = format!("create schema if not exists {schema}").into();
        let create_table = format!(
            "create table if not exists {name} (
                id text primary key not null,
                data bytea not null,
                expiry_date timestamptz not null
            )"
        )
        .into();
        let mut tries = 1;
        loop {
            // A role that may not create needs not to, and gets no notice.
            let rows = pool.rows(&exists, &[Value::Text(name)]).await?;
            if rows.iter().any(|(exists, _)| *exists != 0) {
                return Ok(());
            }
            for statement in [&create_schema, &create_table] {
                match pool.execute(statement, &[]).await {
                    // Another process creates it at the same time, or something else has its name.
                    Err(error) if P::kind(&error) == ErrorKind::Taken && tries < TRIES => {
                        tries += 1;
                    }
                    result => drop(result?),
                }
            }
        }
    }

    async fn touch_row(
        &self,
        id: &str,
        [from, to, expiry]: [Value<'_>; 3],
    ) -> Result<Touched, P::Error> {
        let values = [Value::Text(id), from, to, expiry];
        Ok(match self.table.pool.row(&self.touch, &values).await? {
            Some((DONE, _)) => Touched::Done,
            Some((NOT_DUE, _)) => Touched::NotDue,
            Some((BUSY, _)) => Touched::Busy,
            Some((SHORTENED, _)) => Touched::Shortened,
            _ => Touched::Gone,
        })
    }
}

in_a_schema!(PostgresStore, PostgresPool, '"');
sql_store!(PostgresStore, PostgresPool);
