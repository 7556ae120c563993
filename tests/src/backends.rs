//! The real stores. Tests on those behind a server are ignored where its variable is unset.

use std::{env, fmt::Debug, future::Future, sync::Arc};

use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use session_refresh::store::{
    MySqlStore, PostgresStore, RedisStore, Serialized, SqliteStore, Touch,
};
use sqlx::{MySqlPool, PgPool, SqlitePool, Transaction, sqlite::SqliteConnectOptions};
use tempfile::TempDir;
use tower_sessions::{MemoryStore, SessionStore, session::Id};
use tower_sessions_redis_store::fred::{
    cmd,
    prelude::{ClientLike as _, Config, Pool, Value},
};

/// One place where sessions are kept, seen through the store crate that others use and through ours.
pub trait Backend: Clone + Debug + Send + Sync + 'static {
    /// The store as its crate has it.
    type Plain: SessionStore + Clone;
    /// The store that can touch.
    type Touching: SessionStore + Touch + Clone;
    /// Whether a touch may find that somebody else is writing the session: it waits for no lock, or it asks in a second statement
    /// why it has done nothing, and by then the session is due again.
    const MAY_BE_BUSY: bool = false;

    /// Connects, and creates what must exist.
    ///
    /// # Panics
    /// If there is none to connect to.
    fn connect() -> impl Future<Output = Self> + Send;
    /// The sessions through the store crate that others use.
    fn plain(&self) -> Self::Plain;
    /// The same sessions through ours.
    fn touching(&self) -> Self::Touching;
    /// Puts these bytes in the place of a session's record. Answers whether the store keeps records as bytes.
    fn overwrite(&self, id: Id, bytes: &[u8]) -> impl Future<Output = bool> + Send;
    /// Deletes what has ended, where the store does not do that by itself.
    fn sweep(&self) -> impl Future<Output = ()> + Send {
        std::future::ready(())
    }
}

/// Runs generic tests `async fn test<B: Backend>(backend: B)` on every store.
#[macro_export]
macro_rules! on_every_backend {
    ($($test:ident),* $(,)?) => {
        $crate::on_every_backend!(@ memory Memory: $($test),*);
        $crate::on_every_backend!(@ sqlite Sqlite: $($test),*);
        $crate::on_every_backend!(@ postgres Postgres: $($test),*);
        $crate::on_every_backend!(@ mysql MySql: $($test),*);
        $crate::on_every_backend!(@ redis Redis: $($test),*);
        $crate::on_every_backend!(@ redis_rs RedisRs: $($test),*);
    };
    (@ $module:ident $backend:ident: $($test:ident),*) => {
        mod $module {
            $(
                $crate::backends::on_backend! { $module
                    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                    async fn $test() {
                        use $crate::backends::Backend as _;
                        super::$test($crate::backends::$backend::connect().await).await;
                    }
                }
            )*
        }
    };
}

pub use on_every_backend;

/// A test on one store. It is ignored where that store is missing.
#[macro_export]
macro_rules! on_backend {
    (postgres $test:item) => {
        #[cfg_attr(without_postgres, ignore = "POSTGRES_URL is not set")]
        $test
    };
    (mysql $test:item) => {
        #[cfg_attr(without_mysql, ignore = "MYSQL_URL is not set")]
        $test
    };
    (redis $test:item) => {
        #[cfg_attr(without_redis, ignore = "REDIS_URL is not set")]
        $test
    };
    (redis_rs $test:item) => {
        $crate::on_backend!(redis $test);
    };
    ($here:ident $test:item) => {
        $test
    };
}

pub use on_backend;

/// The value of a variable that names a server.
fn url(variable: &str) -> String {
    env::var(variable).unwrap_or_else(|_| panic!("{variable} names a server"))
}

/// tower-sessions' `MemoryStore`, and the same with one thing at a time.
#[derive(Clone, Debug)]
pub struct Memory {
    store: MemoryStore,
    serialized: Serialized<MemoryStore>,
}

impl Backend for Memory {
    type Plain = MemoryStore;
    type Touching = Serialized<MemoryStore>;

    async fn connect() -> Self {
        let store = MemoryStore::default();
        Self {
            serialized: Serialized::new(store.clone()),
            store,
        }
    }

    fn plain(&self) -> MemoryStore {
        self.store.clone()
    }

    fn touching(&self) -> Serialized<MemoryStore> {
        self.serialized.clone()
    }

    async fn overwrite(&self, _: Id, _: &[u8]) -> bool {
        false
    }
}

/// A file of its own, in write-ahead mode.
#[derive(Clone, Debug)]
pub struct Sqlite {
    /// Its connections.
    pub pool: SqlitePool,
    _directory: Arc<TempDir>,
}

impl Backend for Sqlite {
    type Plain = tower_sessions_sqlx_store::SqliteStore;
    type Touching = SqliteStore<SqlitePool>;
    const MAY_BE_BUSY: bool = true;

    async fn connect() -> Self {
        let directory = tempfile::tempdir().expect("a directory can be made");
        let options = SqliteConnectOptions::new()
            .filename(directory.path().join("sessions.sqlite3"))
            .create_if_missing(true)
            .journal_mode(sqlx::sqlite::SqliteJournalMode::Wal);
        let pool = SqlitePool::connect_with(options)
            .await
            .expect("a file can be opened");
        SqliteStore::new(pool.clone())
            .migrate()
            .await
            .expect("a table can be created");
        Self {
            pool,
            _directory: Arc::new(directory),
        }
    }

    fn plain(&self) -> Self::Plain {
        tower_sessions_sqlx_store::SqliteStore::new(self.pool.clone())
    }

    fn touching(&self) -> Self::Touching {
        SqliteStore::new(self.pool.clone())
    }

    async fn overwrite(&self, id: Id, bytes: &[u8]) -> bool {
        let set = sqlx::query("update tower_sessions set data = ? where id = ?");
        let set = set.bind(bytes).bind(id.to_string()).execute(&self.pool);
        set.await.expect("a file can be written").rows_affected() == 1
    }

    async fn sweep(&self) {
        let swept = self.touching().delete_expired().await;
        swept.expect("the store is up");
    }
}

impl Sqlite {
    /// The same sessions through ours, on sqlx 0.9.
    ///
    /// # Panics
    /// If the file can't be opened.
    pub async fn touching_on_sqlx_0_9(&self) -> SqliteStore<sqlx_0_9::SqlitePool> {
        let options = self.pool.connect_options();
        let options =
            sqlx_0_9::sqlite::SqliteConnectOptions::new().filename(options.get_filename());
        let pool = sqlx_0_9::SqlitePool::connect_with(options).await;
        SqliteStore::new(pool.expect("a file can be opened"))
    }
}

/// The server of `POSTGRES_URL`.
#[derive(Clone, Debug)]
pub struct Postgres {
    /// Its connections.
    pub pool: PgPool,
}

impl Backend for Postgres {
    type Plain = tower_sessions_sqlx_store::PostgresStore;
    type Touching = PostgresStore<PgPool>;
    const MAY_BE_BUSY: bool = true;

    async fn connect() -> Self {
        let pool = PgPool::connect(&url("POSTGRES_URL"))
            .await
            .expect("PostgreSQL answers");
        PostgresStore::new(pool.clone())
            .migrate()
            .await
            .expect("a table can be created");
        Self { pool }
    }

    fn plain(&self) -> Self::Plain {
        tower_sessions_sqlx_store::PostgresStore::new(self.pool.clone())
    }

    fn touching(&self) -> Self::Touching {
        PostgresStore::new(self.pool.clone())
    }

    async fn overwrite(&self, id: Id, bytes: &[u8]) -> bool {
        let set = sqlx::query(r#"update "tower_sessions"."session" set data = $1 where id = $2"#);
        let set = set.bind(bytes).bind(id.to_string()).execute(&self.pool);
        set.await.expect("PostgreSQL answers").rows_affected() == 1
    }

    async fn sweep(&self) {
        let swept = self.touching().delete_expired().await;
        swept.expect("the store is up");
    }
}

impl Postgres {
    /// Somebody else's transaction that holds a session's row, until it ends.
    ///
    /// # Panics
    /// If the server does not answer.
    pub async fn locked(&self, id: Id) -> Transaction<'static, sqlx::Postgres> {
        let mut lock = self.pool.begin().await.expect("PostgreSQL answers");
        let row = r#"select from "tower_sessions"."session" where id = $1 for update"#;
        let row = sqlx::query(row).bind(id.to_string()).execute(&mut *lock);
        row.await.expect("nobody else holds it");
        lock
    }

    /// The same sessions through ours, on sqlx 0.9.
    ///
    /// # Panics
    /// If the server does not answer.
    pub async fn touching_on_sqlx_0_9(&self) -> PostgresStore<sqlx_0_9::PgPool> {
        let url = url("POSTGRES_URL");
        let pool = sqlx_0_9::PgPool::connect(&url).await;
        PostgresStore::new(pool.expect("PostgreSQL answers"))
    }
}

/// The server of `MYSQL_URL`, MySQL or MariaDB.
#[derive(Clone, Debug)]
pub struct MySql {
    /// Its connections.
    pub pool: MySqlPool,
}

impl Backend for MySql {
    type Plain = tower_sessions_sqlx_store::MySqlStore;
    type Touching = MySqlStore<MySqlPool>;
    const MAY_BE_BUSY: bool = true;

    async fn connect() -> Self {
        let pool = MySqlPool::connect(&url("MYSQL_URL"))
            .await
            .expect("MySQL answers");
        MySqlStore::new(pool.clone())
            .migrate()
            .await
            .expect("a table can be created");
        Self { pool }
    }

    fn plain(&self) -> Self::Plain {
        tower_sessions_sqlx_store::MySqlStore::new(self.pool.clone())
    }

    fn touching(&self) -> Self::Touching {
        MySqlStore::new(self.pool.clone())
    }

    async fn overwrite(&self, id: Id, bytes: &[u8]) -> bool {
        let set = sqlx::query("update tower_sessions.session set data = ? where id = ?");
        let set = set.bind(bytes).bind(id.to_string()).execute(&self.pool);
        set.await.expect("MySQL answers").rows_affected() == 1
    }

    async fn sweep(&self) {
        let swept = self.touching().delete_expired().await;
        swept.expect("the store is up");
    }
}

impl MySql {
    /// Somebody else's transaction that holds a session's row, until it ends.
    ///
    /// # Panics
    /// If the server does not answer.
    pub async fn locked(&self, id: Id) -> Transaction<'static, sqlx::MySql> {
        let mut lock = self.pool.begin().await.expect("MySQL answers");
        let row = "select 1 from tower_sessions.session where id = ? for update";
        let row = sqlx::query(row).bind(id.to_string()).execute(&mut *lock);
        row.await.expect("nobody else holds it");
        lock
    }

    /// The same sessions through ours, on sqlx 0.9.
    ///
    /// # Panics
    /// If the server does not answer.
    pub async fn touching_on_sqlx_0_9(&self) -> MySqlStore<sqlx_0_9::MySqlPool> {
        let url = url("MYSQL_URL");
        let pool = sqlx_0_9::MySqlPool::connect(&url).await;
        MySqlStore::new(pool.expect("MySQL answers"))
    }
}

/// The server of `REDIS_URL`, by fred.
#[derive(Clone, Debug)]
pub struct Redis {
    /// Its connections.
    pub pool: Pool,
}

impl Backend for Redis {
    type Plain = tower_sessions_redis_store::RedisStore<Pool>;
    type Touching = RedisStore<Pool>;

    async fn connect() -> Self {
        Self::at(&url("REDIS_URL")).await
    }

    fn plain(&self) -> Self::Plain {
        tower_sessions_redis_store::RedisStore::new(self.pool.clone())
    }

    fn touching(&self) -> RedisStore<Pool> {
        RedisStore::new(self.pool.clone())
    }

    async fn overwrite(&self, id: Id, bytes: &[u8]) -> bool {
        let arguments = [id.to_string().as_bytes(), bytes, b"KEEPTTL"].map(Value::from);
        let set = self.pool.custom(cmd!("SET"), arguments.to_vec()).await;
        set.map(|answer: Value| answer.is_ok())
            .expect("Redis answers")
    }
}

impl Redis {
    /// The server at `url`.
    ///
    /// # Panics
    /// If it does not answer.
    pub async fn at(url: &str) -> Self {
        let config = Config::from_url(url).expect("REDIS_URL is a URL");
        let pool = Pool::new(config, None, None, None, 4).expect("a pool can be built");
        pool.init().await.expect("Redis answers");
        Self { pool }
    }
}

/// The server of `REDIS_URL`, by the crate redis.
#[derive(Clone, Debug)]
pub struct RedisRs {
    fred: Redis,
    /// Its connection.
    pub connection: ConnectionManager,
}

impl Backend for RedisRs {
    type Plain = tower_sessions_redis_store::RedisStore<Pool>;
    type Touching = RedisStore<ConnectionManager>;

    async fn connect() -> Self {
        Self::at(&url("REDIS_URL")).await
    }

    fn plain(&self) -> Self::Plain {
        self.fred.plain()
    }

    fn touching(&self) -> Self::Touching {
        RedisStore::new(self.connection.clone())
    }

    async fn overwrite(&self, id: Id, bytes: &[u8]) -> bool {
        self.fred.overwrite(id, bytes).await
    }
}

impl RedisRs {
    /// The server at `url`.
    ///
    /// # Panics
    /// If it does not answer.
    pub async fn at(url: &str) -> Self {
        let client = redis::Client::open(url).expect("REDIS_URL is a URL");
        // It does not try for long where there is nobody.
        let config = ConnectionManagerConfig::new().set_number_of_retries(1);
        let connection = ConnectionManager::new_with_config(client, config).await;
        Self {
            fred: Redis::at(url).await,
            connection: connection.expect("Redis answers"),
        }
    }
}
