//! Each fault on each store: what a user sees, what others see, and that nobody is logged out by it. The table that comes of
//! it is the one in the guide to operating.

use std::{env, fs, sync::Mutex, time::Duration as StdDuration};

use axum::{Extension, Router, http::StatusCode, routing::get};
use fred::prelude::{Builder, ClientLike as _, Config, ReconnectPolicy};
use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use session_refresh::{
    LifetimeLayer, session_refresh,
    store::{MySqlStore, PostgresStore, RedisClient, RedisStore, Touch},
};
use session_refresh_tests::{
    Client, FoundAtGate, Gate, OwnServer, Proxy, Server, TestClock, Wire,
    backends::{Backend, MySql, Postgres, Redis, Sqlite},
    login_routes,
};
use sqlx::{MySqlPool, PgPool, mysql::MySqlPoolOptions, postgres::PgPoolOptions};
use time::Duration;
use tower_sessions::{
    Expiry, Session, SessionManagerLayer, SessionStore,
    session::{Id, Record},
};

const GUIDE: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../runtime/src/guide/operating.md"
);

/// How long a touch may take here, and a client waits for a page.
const TOUCH_LIMIT: StdDuration = StdDuration::from_millis(200);
const PATIENCE: StdDuration = StdDuration::from_millis(1500);
const USERS: usize = 3;

#[session_refresh(interval = "24h", user = FoundAtGate)]
async fn under_way() {}

#[session_refresh(interval = "24h")]
async fn annotated() {}

async fn reads(session: Session) -> Result<String, StatusCode> {
    let role: Result<Option<String>, _> = session.get("role").await;
    role.map(Option::unwrap_or_default)
        .map_err(|_| StatusCode::SERVICE_UNAVAILABLE)
}

async fn open() {}

/// An application in front of a store whose server is somebody's to break.
struct Site<'a> {
    server: Option<&'a mut OwnServer>,
    proxy: Option<&'a Proxy>,
    gate: Gate,
    clock: TestClock,
    clients: Vec<Client>,
    _served: Server,
}

/// What can go wrong with a whole store.
#[derive(Clone, Copy, PartialEq)]
enum Fault {
    Wire(&'static str, Wire),
    Stopped,
    Killed,
}

const FAULTS: [Fault; 6] = [
    Fault::Wire("connections are cut, and refused", Wire::IsCut),
    Fault::Wire(
        "answers are late by 5 s",
        Wire::Delays(StdDuration::from_secs(5)),
    ),
    Fault::Wire("connections are half open", Wire::IsHalfOpen),
    Fault::Stopped,
    Fault::Killed,
    // The last, since not every client is itself again afterwards.
    Fault::Wire("answers are garbage", Wire::Garbles),
];

impl Fault {
    fn name(self) -> &'static str {
        match self {
            Self::Wire(name, _) => name,
            Self::Stopped => "the server is stopped",
            Self::Killed => "the server is killed",
        }
    }
}

impl Site<'_> {
    fn breaks(&mut self, fault: Fault) {
        match (fault, &mut self.server, self.proxy) {
            (Fault::Wire(_, wire), _, Some(proxy)) => proxy.now(wire),
            (Fault::Stopped, Some(server), _) => server.signal("-STOP"),
            (Fault::Killed, Some(server), _) => server.kill(),
            _ => panic!("there is none to break"),
        }
    }

    fn heals(&mut self, fault: Fault) {
        match (fault, &mut self.server, self.proxy) {
            (Fault::Wire(..), _, Some(proxy)) => proxy.is_mended(),
            (Fault::Stopped, Some(server), _) => server.signal("-CONT"),
            (Fault::Killed, Some(server), _) => server.restart(),
            _ => panic!("there is none to mend"),
        }
    }

    /// All clients at once, none of whom waits for long.
    fn all(&self, path: &'static str) -> impl Future<Output = String> + use<> {
        let requests: Vec<_> = (self.clients.iter().cloned())
            .map(|client| tokio::spawn(async move { seen(&client, path).await }))
            .collect();
        async {
            let mut seen = Vec::new();
            for request in requests {
                seen.push(request.await.unwrap());
            }
            // They see the same.
            assert!(seen.iter().all(|one| *one == seen[0]), "{seen:?}");
            seen.swap_remove(0)
        }
    }

    /// Waits until everybody's session has been refreshed again. What is to be said of that.
    async fn recovers(&self, patience: StdDuration) -> &'static str {
        let recover = tokio::time::timeout(patience, self.recover());
        if recover.await.is_ok() {
            RECOVERED
        } else {
            NOT_RECOVERED
        }
    }

    async fn recover(&self) {
        let pause = || tokio::time::sleep(StdDuration::from_millis(20));
        for client in &self.clients {
            while seen(client, "/reads").await != "served" {
                pause().await;
            }
            assert_eq!(client.get("/reads").await.text, "user");
            while !["served, `refreshed`", "served, `not_due`"]
                .contains(&&*seen(client, "/annotated").await)
            {
                pause().await;
            }
        }
    }
}

const RECOVERED: &str = "refreshed again";
const NOT_RECOVERED: &str = "as before, until the process starts again";

const LONG: StdDuration = StdDuration::from_secs(20);

/// Where the guide says that a client does not recover, it is given a moment to do so all the same.
fn patience_after(name: &str, fault: &str) -> StdDuration {
    let guide = fs::read_to_string(GUIDE).unwrap();
    let row = format!("| {name} | {fault} |");
    let is_known =
        (guide.lines()).any(|line| line.starts_with(&row) && line.contains(NOT_RECOVERED));
    if is_known {
        StdDuration::from_secs(3)
    } else {
        LONG
    }
}

/// What a user sees: a page, and whether its session was refreshed.
async fn seen(client: &Client, path: &str) -> String {
    let Ok(answer) = tokio::time::timeout(PATIENCE, client.get(path)).await else {
        return "no answer".to_owned();
    };
    let served = match answer.status.as_u16() {
        200 => "served".to_owned(),
        status => status.to_string(),
    };
    match answer.outcome() {
        "" => served,
        outcome => format!("{served}, `{outcome}`"),
    }
}

async fn site<'a>(
    store: impl SessionStore + Touch + Clone,
    server: Option<&'a mut OwnServer>,
    proxy: Option<&'a Proxy>,
) -> Site<'a> {
    let (gate, clock) = (Gate::default(), TestClock::default());
    let sessions = LifetimeLayer::new(store, |store| {
        SessionManagerLayer::new(store)
            .with_secure(false)
            .with_expiry(Expiry::OnInactivity(Duration::weeks(2)))
    });
    let sessions = sessions
        .with_clock(clock.as_fn())
        .with_touch_limit(TOUCH_LIMIT);
    let app = Router::new()
        .route("/under_way", get(under_way))
        .route("/annotated", get(annotated))
        .route("/reads", get(reads))
        .route("/open", get(open))
        .merge(login_routes())
        .layer(Extension(gate.clone()))
        .layer(sessions);
    let site = Server::start(app).await;
    let mut clients = Vec::new();
    for _ in 0..USERS {
        let client = site.client();
        client.post("/login/user").await;
        clients.push(client);
    }
    Site {
        server,
        proxy,
        gate,
        clock,
        clients,
        _served: site,
    }
}

/// A row of the table for each fault of the whole store.
async fn rows_of_the_store(name: &str, site: &mut Site<'_>) -> Vec<String> {
    let mut rows = Vec::new();
    for fault in FAULTS {
        site.clock.advance(Duration::DAY);
        let under_way = site.all("/under_way");
        for _ in 0..USERS {
            site.gate.arrived().await;
        }
        site.breaks(fault);
        for _ in 0..USERS {
            site.gate.open();
        }
        let under_way = under_way.await;
        let annotated = site.all("/annotated").await;
        let reads = site.all("/reads").await;
        let open = site.all("/open").await;
        site.heals(fault);
        let fault = fault.name();
        let afterwards = site.recovers(patience_after(name, fault)).await;
        rows.push(format!(
            "| {name} | {fault} | {under_way} | {annotated} | {reads} | {open} | {afterwards} |"
        ));
    }
    rows
}

/// A row for what is wrong with one session alone.
async fn row_of_a_session<T>(
    name: &str,
    fault: &str,
    site: &Site<'_>,
    breaks: impl AsyncFnOnce(Id) -> T,
    mends: impl AsyncFnOnce(T),
) -> String {
    let [user, other, ..] = &site.clients[..] else {
        panic!("there are some")
    };
    site.clock.advance(Duration::DAY);
    let broken = breaks(user.session_id().unwrap()).await;
    let mut its_user = seen(user, "/annotated").await;
    for _ in 0..5 {
        assert_eq!(seen(user, "/annotated").await, its_user);
    }
    let reads = seen(user, "/reads").await;
    its_user = format!("{its_user} | {reads}");
    let others = seen(other, "/annotated").await;
    assert_eq!(seen(other, "/reads").await, "served");
    mends(broken).await;
    assert_eq!(site.recovers(LONG).await, RECOVERED);
    format!("| {name} | {fault} | {its_user} | {others} | served |")
}

/// The rows of a store are those in the guide. With `UPDATE_EXPECT` they are written there.
fn are_in_the_guide(rows: &[String]) {
    static GUIDE_IS_WRITTEN: Mutex<()> = Mutex::new(());

    let _one_at_a_time = GUIDE_IS_WRITTEN.lock().unwrap();
    let mut guide = fs::read_to_string(GUIDE).unwrap();
    let is_updated = env::var_os("UPDATE_EXPECT").is_some();
    for row in rows {
        println!("{row}");
        let of = row.splitn(4, '|').take(3).collect::<Vec<_>>().join("|");
        let written = guide
            .lines()
            .find(|line| line.starts_with(&format!("{of}|")));
        let written = written
            .unwrap_or_else(|| panic!("the guide has no row `{of}|`"))
            .to_owned();
        if is_updated {
            guide = guide.replace(&written, row);
        } else {
            assert_eq!(
                *row, written,
                "the guide differs: run this with UPDATE_EXPECT=1"
            );
        }
    }
    if is_updated {
        fs::write(GUIDE, guide).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[cfg_attr(without_own_postgres, ignore = "PostgreSQL is not installed")]
async fn on_postgres() {
    let mut server = OwnServer::postgres();
    let proxy = Proxy::to(format!("127.0.0.1:{}", server.port())).await;
    let url = |port| format!("postgres://postgres@127.0.0.1:{port}/postgres");
    let direct = Postgres {
        pool: PgPool::connect(&url(server.port())).await.unwrap(),
    };
    direct.touching().migrate().await.unwrap();
    let options = PgPoolOptions::new().acquire_timeout(PATIENCE / 3);
    let store = PostgresStore::new(options.connect(&url(proxy.port())).await.unwrap());
    let mut site = site(store, Some(&mut server), Some(&proxy)).await;
    let mut rows = rows_of_the_store("PostgreSQL", &mut site).await;
    let locked = async |id| direct.locked(id).await;
    let unlock = async |lock: sqlx::Transaction<'_, sqlx::Postgres>| lock.rollback().await.unwrap();
    rows.push(row_of_a_session("PostgreSQL", LOCKED, &site, locked, unlock).await);
    rows.push(row_of_a_damaged_session("PostgreSQL", &site, &direct).await);
    are_in_the_guide(&rows);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[cfg_attr(without_own_mariadb, ignore = "MariaDB is not installed")]
async fn on_mariadb() {
    let mut server = OwnServer::mariadb();
    let proxy = Proxy::to(format!("127.0.0.1:{}", server.port())).await;
    let url = |port| format!("mysql://root@127.0.0.1:{port}/mysql");
    let direct = MySql {
        pool: MySqlPool::connect(&url(server.port())).await.unwrap(),
    };
    direct.touching().migrate().await.unwrap();
    let options = MySqlPoolOptions::new().acquire_timeout(PATIENCE / 3);
    let store = MySqlStore::new(options.connect(&url(proxy.port())).await.unwrap());
    let mut site = site(store, Some(&mut server), Some(&proxy)).await;
    let mut rows = rows_of_the_store("MariaDB", &mut site).await;
    let locked = async |id| direct.locked(id).await;
    let unlock = async |lock: sqlx::Transaction<'_, sqlx::MySql>| lock.rollback().await.unwrap();
    rows.push(row_of_a_session("MariaDB", LOCKED, &site, locked, unlock).await);
    rows.push(row_of_a_damaged_session("MariaDB", &site, &direct).await);
    are_in_the_guide(&rows);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[cfg_attr(without_own_redis, ignore = "redis-server is not installed")]
async fn on_redis_by_fred() {
    let mut server = OwnServer::redis(&[]);
    let proxy = Proxy::to(format!("127.0.0.1:{}", server.port())).await;
    let config = Config::from_url(&format!("redis://127.0.0.1:{}", proxy.port())).unwrap();
    let pool = Builder::from_config(config)
        .with_performance_config(|config| config.default_command_timeout = PATIENCE / 3)
        .set_policy(ReconnectPolicy::new_constant(0, 50))
        .build_pool(2)
        .unwrap();
    pool.init().await.unwrap();
    of_redis("Redis, fred", RedisStore::new(pool), &mut server, &proxy).await;
}

/// Its rows, whatever its client.
async fn of_redis<C: RedisClient>(
    name: &str,
    store: RedisStore<C>,
    server: &mut OwnServer,
    proxy: &Proxy,
) {
    let url = format!("redis://127.0.0.1:{}", server.port());
    let mut site = site(store, Some(server), Some(proxy)).await;
    let direct = Redis::at(&url).await;
    let mut rows = vec![row_of_a_damaged_session(name, &site, &direct).await];
    rows.extend(rows_of_the_store(name, &mut site).await);
    // Whatever has become of its client, nobody has been logged out.
    let direct = Redis::at(&url).await;
    for client in &site.clients {
        let id = client.session_id().unwrap();
        assert!(direct.plain().load(&id).await.unwrap().is_some());
    }
    are_in_the_guide(&rows);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[cfg_attr(without_own_redis, ignore = "redis-server is not installed")]
async fn on_redis_by_redis_rs() {
    let mut server = OwnServer::redis(&[]);
    let proxy = Proxy::to(format!("127.0.0.1:{}", server.port())).await;
    let client = redis::Client::open(format!("redis://127.0.0.1:{}", proxy.port())).unwrap();
    let config = ConnectionManagerConfig::new()
        .set_number_of_retries(1)
        .set_response_timeout(Some(PATIENCE / 3))
        .set_connection_timeout(Some(PATIENCE / 3));
    let connection = ConnectionManager::new_with_config(client, config).await;
    let store = RedisStore::new(connection.unwrap());
    of_redis("Redis, redis-rs", store, &mut server, &proxy).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_sqlite() {
    let backend = Sqlite::connect().await;
    let site = site(backend.touching(), None, None).await;
    let lock = async |_| {
        let mut lock = backend.pool.acquire().await.unwrap();
        sqlx::query("begin immediate")
            .execute(&mut *lock)
            .await
            .unwrap();
        lock
    };
    let unlock = async |mut lock: sqlx::pool::PoolConnection<sqlx::Sqlite>| {
        sqlx::query("rollback").execute(&mut *lock).await.unwrap();
    };
    let rows = [
        row_of_a_session(
            "SQLite",
            "another transaction writes to the file",
            &site,
            lock,
            unlock,
        )
        .await,
        row_of_a_damaged_session("SQLite", &site, &backend).await,
    ];
    are_in_the_guide(&rows);
}

const LOCKED: &str = "its row is locked by another transaction";

/// Something else than a record in its place, until that is put back.
async fn row_of_a_damaged_session(name: &str, site: &Site<'_>, direct: &impl Backend) -> String {
    let store = direct.touching();
    let breaks = async |id: Id| {
        let record = store.load(&id).await.unwrap().unwrap();
        assert!(direct.overwrite(id, b"no record").await);
        record
    };
    let mends = async |record: Record| {
        let bytes = rmp_serde::to_vec(&record).unwrap();
        assert!(direct.overwrite(record.id, &bytes).await);
    };
    row_of_a_session(name, "its record is damaged", site, breaks, mends).await
}
