//! MySQL and MariaDB.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use axum::BoxError;
use time::OffsetDateTime;

use super::{
    release::{OwnStore, Record, RecordRef, SessionId, StoreError, session_store},
    sql::{
        BUSY, ErrorKind, NOT_DUE, PAGE, Pool, SHORTENED, Statements, Table, Value, checked_name,
        in_a_schema, parameters, sql_store,
    },
    touch::{EncodedLoad, FirstTouch, Touch, Touched},
};
use crate::{schedule::Millis, session::for_each_release};

/// A pool of connections to MySQL or MariaDB: sqlx's `MySqlPool`, of either of its releases that are enabled.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a pool of connections to MySQL or MariaDB that this build knows",
    note = "`MySqlStore` takes the `MySqlPool` of sqlx 0.8 (feature `mysql`) or 0.9 (feature `mysql-sqlx-0_9`)"
)]
pub trait MySqlPool: Pool {}

#[cfg(feature = "mysql")]
impl MySqlPool for sqlx::MySqlPool {}

#[cfg(feature = "mysql-sqlx-0_9")]
impl MySqlPool for sqlx_0_9::MySqlPool {}

/// MySQL or MariaDB, with tower-sessions-sqlx-store's table and records: an application can change to it and back, and nobody
/// is logged out. A store of both releases of tower-sessions, on sqlx 0.8 or, with the feature `mysql-sqlx-0_9`, 0.9.
///
/// ```no_run
/// # #[cfg(feature = "mysql")]
/// # async fn f() -> Result<(), Box<dyn std::error::Error>> {
/// use std::time::Duration;
///
/// use session_refresh::{LifetimeLayer, store::MySqlStore};
/// use tower_sessions::SessionManagerLayer;
///
/// let pool = sqlx::MySqlPool::connect("mysql://localhost/app").await?;
/// let store = MySqlStore::new(pool);
/// store.migrate().await?;
/// tokio::spawn(store.clone().continuously_delete_expired(Duration::from_secs(3600)));
/// let sessions = LifetimeLayer::new(store, |store| SessionManagerLayer::new(store));
/// # let _: axum::Router = axum::Router::new().layer(sessions); Ok(()) }
/// ```
///
/// The server's clock decides whether a session has ended. From MySQL 8.0.1 and MariaDB 10.6 on, a touch waits for no lock:
/// while another transaction holds the session's row, somebody is writing the session, and it is not due.
///
/// Upstream's columns have limits: a session holds at most 65,535 bytes (`blob`), and saving a larger one is an error; and it
/// ends in January 2038 at the latest (`timestamp`), which an application is told. Where the connections have another time zone
/// than sqlx gives them, UTC, a session that would end within the hour that comes twice in autumn may end in the other one.
#[derive(Clone)]
pub struct MySqlStore<P> {
    table: Table<P>,
    touches: Arc<[TouchForm; 3]>,
    /// Which of them the server understands: those before it do not.
    form: Arc<AtomicUsize>,
    why_not: Arc<str>,
}

/// The last of a `timestamp`.
const LATEST: Millis = Millis::clamp(i32::MAX as i64 * 1000 + 999);
/// Its first.
const EARLIEST: Millis = Millis::clamp(1000);

/// What the column takes.
pub(super) fn in_range(milliseconds: i64) -> i64 {
    Millis::clamp(milliseconds).max(EARLIEST).min(LATEST).into()
}

/// A parameter, milliseconds, as a time.
const TIME: &str = "from_unixtime(? / 1000)";
/// The inside of the column, without a time zone.
const EXPIRY: &str = "cast(floor(unix_timestamp(expiry_date) * 1000) as signed)";
/// The time of the statement's beginning. Were it `sysdate`'s, a binary log of mixed format would hold the whole row.
const IS_LIVE: &str = "unix_timestamp(expiry_date) > unix_timestamp(now(6))";
/// The same for a statement that may have waited.
const IS_STILL_LIVE: &str = "unix_timestamp(expiry_date) > unix_timestamp(sysdate(6))";

fn statements(table: &str) -> Statements {
    let ids = parameters(|_| "?".into());
    Statements {
        load: format!("select {EXPIRY}, data from {table} where id = ? and {IS_LIVE}").into(),
        expiry: Millis::clamp,
        create: format!("insert into {table} (id, data, expiry_date) values (?, ?, {TIME})").into(),
        update: format!(
            "update {table} set data = ?, expiry_date = {TIME} where id = ? and {IS_LIVE}"
        )
        .into(),
        update_passively: format!(
            "update {table} set data = ?, expiry_date = greatest(expiry_date, {TIME}) where id = ? and {IS_LIVE}"
        )
        .into(),
        replace: format!(
            "update {table} set data = ?, expiry_date = {TIME} where id = ? and data = ? and {IS_STILL_LIVE}"
        )
        .into(),
        delete: format!("delete from {table} where id = ?").into(),
        page: format!(
            "select cast(not ({IS_LIVE}) as signed), cast(id as binary) from {table} where id > ? order by id limit {PAGE}"
        )
        .into(),
        delete_ended: format!("delete from {table} where id in ({ids}) and not ({IS_LIVE})").into(),
    }
}

/// id, due until, expiry.
const IS_DUE: &str =
    "id = ? and unix_timestamp(expiry_date) <= ? / 1000 and unix_timestamp(expiry_date) < ? / 1000";

/// due from.
const IS_AS_SEEN: &str = "unix_timestamp(expiry_date) >= ? / 1000";

/// A way to write a touch.
struct TouchForm {
    statement: Arc<str>,
    /// Whether it takes the expiry first, and then what [`IS_DUE`] and [`IS_AS_SEEN`] take, or the other way around.
    expiry_first: bool,
}

/// The best one first. None but the last waits for a lock.
fn touches(table: &str) -> [TouchForm; 3] {
    // MariaDB's. It is the only one of which a binary log of mixed format, the default there, holds the statement instead of
    // the whole row, twice.
    let without_waiting = format!(
        "set statement innodb_lock_wait_timeout = 0 for \
         update {table} set expiry_date = {TIME} where {IS_DUE} and {IS_AS_SEEN} and {IS_LIVE}"
    );
    // MySQL's from 8.0.1.
    let skipping = format!(
        "update {table} session join (select id from {table} where {IS_DUE} and {IS_AS_SEEN} and {IS_LIVE} for update skip locked) due \
         on due.id = session.id set expiry_date = {TIME}"
    );
    let waiting = format!(
        "update {table} set expiry_date = {TIME} where {IS_DUE} and {IS_AS_SEEN} and {IS_STILL_LIVE}"
    );
    [(without_waiting, true), (skipping, false), (waiting, true)].map(
        |(statement, expiry_first)| TouchForm {
            statement: statement.into(),
            expiry_first,
        },
    )
}

impl<P: MySqlPool> MySqlStore<P> {
    fn in_table(pool: P, name: String) -> Self {
        Self {
            touches: Arc::new(touches(&name)),
            form: Arc::default(),
            why_not: format!(
                "select cast(case when not ({IS_DUE}) then {NOT_DUE} when {IS_AS_SEEN} then {BUSY} else {SHORTENED} end as signed), '' \
                 from {name} where id = ? and {IS_LIVE}"
            )
            .into(),
            table: Table::new(pool, "MySqlStore", statements(&name), name),
        }
    }

    fn moved_to(self, name: String) -> Self {
        Self::in_table(self.table.pool, name)
    }

    /// Creates the schema and the table unless the table exists. Several processes may do so at once.
    ///
    /// # Errors
    /// If the database can't be reached or refuses.
    pub async fn migrate(&self) -> Result<(), P::Error> {
        let Table { pool, name, .. } = &self.table;
        // An account that may not create needs not to, and gets no warning.
        let exists = format!("select 1, '' from {name} limit 0").into();
        match pool.rows(&exists, &[]).await {
            Err(error) if P::kind(&error) == ErrorKind::NoTable => {}
            result => return result.map(drop),
        }
        let schema = name.split('.').next().unwrap_or_default();
        let create_schema = format!("create schema if not exists {schema}").into();
        pool.execute(&create_schema, &[]).await?;
        let create_table = format!(
            "create table if not exists {name} (
                id char(22) primary key not null,
                data blob not null,
                expiry_date timestamp(6) not null
            )"
        )
        .into();
        pool.execute(&create_table, &[]).await.map(drop)
    }

    async fn touch_row(
        &self,
        id: &str,
        [from, to, expiry]: [Value<'_>; 3],
    ) -> Result<Touched, P::Error> {
        let Self { table, why_not, .. } = self;
        loop {
            let form = self.form.load(Ordering::Relaxed);
            let TouchForm {
                statement,
                expiry_first,
            } = &self.touches[form];
            let mut values = [expiry, Value::Text(id), to, expiry, from];
            if !expiry_first {
                values.rotate_left(1);
            }
            let row = [Value::Text(id), to, expiry, from, Value::Text(id)];
            match table.touch(statement, &values, why_not, &row).await {
                Err(error)
                    if P::kind(&error) == ErrorKind::Syntax && form + 1 < self.touches.len() =>
                {
                    self.form.fetch_max(form + 1, Ordering::Relaxed);
                }
                result => return result,
            }
        }
    }
}

/// For tests against a server that understands several forms.
#[doc(hidden)]
impl<P: MySqlPool> MySqlStore<P> {
    /// Has touches written in this form, and in no other unless the server does not understand it; `None` if there is none.
    #[must_use]
    pub fn with_touch_form(self, form: usize) -> Option<Self> {
        (form < self.touches.len()).then(|| Self {
            form: Arc::new(form.into()),
            ..self
        })
    }

    /// The form that touches are written in.
    #[must_use]
    pub fn touch_form(&self) -> usize {
        self.form.load(Ordering::Relaxed)
    }
}

in_a_schema!(MySqlStore, MySqlPool, '`');
sql_store!(MySqlStore, MySqlPool);
