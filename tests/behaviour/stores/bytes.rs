//! What a refresh sends to the store: the same few bytes, whatever the session holds.

use std::env;

use session_refresh::store::{MySqlStore, PostgresStore, RedisStore, Touch, Touched};
use session_refresh_tests::{
    OwnServer, Proxy,
    backends::{Backend, MySql, Postgres, Redis, RedisRs},
};
use sqlx::{MySqlPool, PgPool, Row as _};
use time::{Duration, OffsetDateTime};
use tower_sessions::{
    SessionStore,
    session::{Id, Record},
};

use super::extend;

/// Something in front of the server that a variable names, and the URL by way of it.
async fn by_way_of_a_proxy(variable: &str, default_port: u16) -> (Proxy, String) {
    let url = env::var(variable).expect("it is set");
    let (scheme, rest) = url.split_once("://").expect("a URL");
    let (login, host) = rest
        .rsplit_once('@')
        .map_or(("", rest), |(login, host)| (login, host));
    let (host, path) = host
        .split_once('/')
        .map_or((host, ""), |(host, path)| (host, path));
    let server = if host.contains(':') {
        host.to_owned()
    } else {
        format!("{host}:{default_port}")
    };
    let proxy = Proxy::to(server).await;
    let at = if login.is_empty() { "" } else { "@" };
    let url = format!("{scheme}://{login}{at}127.0.0.1:{}/{path}", proxy.port());
    (proxy, url)
}

/// Touches sessions of several sizes through the wire; each touch must send the same number of bytes.
async fn touches_send_the_same<B: Backend>(
    name: &str,
    proxy: &Proxy,
    backend: &B,
    store: &impl Touch,
    sizes: &[usize],
) {
    let mut sent = Vec::new();
    // The first touches may prepare a statement, load a script or end what connecting began.
    for size in [&sizes[..1], &sizes[..1], sizes].concat() {
        let expiry_date = OffsetDateTime::now_utc() + Duration::HOUR;
        let data = [("fill".to_owned(), "x".repeat(size).into())].into();
        let mut record = Record {
            id: Id::default(),
            data,
            expiry_date,
        };
        backend.touching().create(&mut record).await.unwrap();
        let expiry = expiry_date + Duration::HOUR;
        let before = proxy.sent();
        assert_eq!(
            extend(store, record.id, expiry).await.unwrap(),
            Touched::Done
        );
        sent.push(proxy.sent() - before);
    }
    let sent = &sent[2..];
    println!("{name}: sessions of {sizes:?} bytes, bytes sent per touch {sent:?}");
    // sqlx ends a statement with five bytes that may be sent after it has answered, and so fall into the next count, or the one
    // after.
    let (least, most) = (sent.iter().min().unwrap(), sent.iter().max().unwrap());
    assert!(most - least <= 10, "{name}: {sent:?}");
    assert!(sent[0] < 512, "{name}: {sent:?}");
}

mod the_bytes_of_a_refresh_do_not_grow_with_the_session {
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    #[cfg_attr(without_postgres, ignore = "POSTGRES_URL is not set")]
    async fn on_postgres() {
        let sizes = [100, 10_000, 1_000_000];
        let backend = Postgres::connect().await;
        let (proxy, url) = by_way_of_a_proxy("POSTGRES_URL", 5432).await;
        let options = sqlx::postgres::PgPoolOptions::new()
            .max_connections(1)
            .test_before_acquire(false);
        let pool = options.connect(&url).await.unwrap();
        touches_send_the_same(
            "PostgreSQL",
            &proxy,
            &backend,
            &PostgresStore::new(pool),
            &sizes,
        )
        .await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    #[cfg_attr(without_mysql, ignore = "MYSQL_URL is not set")]
    async fn on_mysql() {
        let backend = MySql::connect().await;
        let (proxy, url) = by_way_of_a_proxy("MYSQL_URL", 3306).await;
        let options = sqlx::mysql::MySqlPoolOptions::new()
            .max_connections(1)
            .test_before_acquire(false);
        let pool = options.connect(&url).await.unwrap();
        touches_send_the_same(
            "MySQL",
            &proxy,
            &backend,
            &MySqlStore::new(pool),
            &[100, 10_000, 60_000],
        )
        .await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    #[cfg_attr(without_redis, ignore = "REDIS_URL is not set")]
    async fn on_redis() {
        let sizes = [100, 10_000, 1_000_000];
        let backend = Redis::connect().await;
        let (proxy, url) = by_way_of_a_proxy("REDIS_URL", 6379).await;
        let store = RedisStore::new(Redis::at(&url).await.pool);
        touches_send_the_same("Redis", &proxy, &backend, &store, &sizes).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[cfg_attr(without_redis, ignore = "REDIS_URL is not set")]
async fn on_redis_a_load_asks_for_no_more_than_a_plain_stores() {
    let backend = Redis::connect().await;
    let (proxy, url) = by_way_of_a_proxy("REDIS_URL", 6379).await;
    let behind = Redis::at(&url).await;
    let mut record = Record {
        id: Id::default(),
        data: [("fill".to_owned(), "x".into())].into(),
        expiry_date: OffsetDateTime::now_utc() + Duration::HOUR,
    };
    backend.touching().create(&mut record).await.unwrap();
    let (plain, touching) = (behind.plain(), behind.touching());
    let mut sent = [0; 2];
    for (store, sent) in [&plain as &dyn SessionStore, &touching]
        .into_iter()
        .zip(&mut sent)
    {
        let before = proxy.sent();
        assert!(store.load(&record.id).await.unwrap().is_some());
        *sent = proxy.sent() - before;
    }
    assert_eq!(sent[0], sent[1]);
    backend.touching().delete(&record.id).await.unwrap();
}

/// What a touch and a save of the same session make the server write.
async fn written(
    store: &(impl SessionStore + Touch),
    size: usize,
    log: impl AsyncFn() -> u64,
) -> (u64, u64) {
    let mut record = Record {
        id: Id::default(),
        data: [("fill".to_owned(), "x".repeat(size).into())].into(),
        expiry_date: OffsetDateTime::now_utc() + Duration::HOUR,
    };
    store.create(&mut record).await.unwrap();
    let (mut touch, mut save) = (u64::MAX, u64::MAX);
    // Of several, since servers write for themselves, too. The first one may also save the page as it was.
    for _ in 0..5 {
        record.expiry_date += Duration::HOUR;
        let before = log().await;
        let expiry = record.expiry_date;
        let touched = extend(store, record.id, expiry);
        assert_eq!(touched.await.unwrap(), Touched::Done);
        touch = touch.min(log().await - before);
        record.expiry_date += Duration::HOUR;
        let before = log().await;
        store.save(&record).await.unwrap();
        save = save.min(log().await - before);
    }
    (touch, save)
}

/// Of sessions of several sizes. A touch writes about the same for each.
async fn touches_write_the_same(
    what: &str,
    store: &(impl SessionStore + Touch),
    sizes: &[usize],
    log: impl AsyncFn() -> u64,
) {
    let mut touches = Vec::new();
    for size in sizes {
        let (touch, save) = written(store, *size, &log).await;
        println!("{what}: {size} bytes, touch {touch}, save {save}");
        assert!((1..1024).contains(&touch), "{what}: {touch}");
        touches.push(touch);
    }
    let (least, most) = (touches.iter().min().unwrap(), touches.iter().max().unwrap());
    assert!(most - least <= 128, "{what}: {touches:?}");
}

mod what_a_server_writes_for_a_touch_does_not_grow_with_the_session {
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    #[cfg_attr(without_own_postgres, ignore = "PostgreSQL is not installed")]
    async fn on_postgres() {
        let sizes = [100, 10_000, 1_000_000];
        let server = OwnServer::postgres();
        let url = format!("postgres://postgres@127.0.0.1:{}/postgres", server.port());
        let pool = PgPool::connect(&url).await.unwrap();
        let store = PostgresStore::new(pool.clone());
        store.migrate().await.unwrap();
        let log = async || {
            let at = "select (pg_current_wal_insert_lsn() - '0/0')::bigint";
            let at: i64 = sqlx::query_scalar(at).fetch_one(&pool).await.unwrap();
            at.cast_unsigned()
        };
        touches_write_the_same("PostgreSQL, log", &store, &sizes, log).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    #[cfg_attr(without_own_mariadb, ignore = "MariaDB is not installed")]
    async fn on_mariadb() {
        let server = OwnServer::mariadb();
        let url = format!("mysql://root@127.0.0.1:{}/mysql", server.port());
        let pool = MySqlPool::connect(&url).await.unwrap();
        let store = MySqlStore::new(pool.clone());
        store.migrate().await.unwrap();
        let sizes = [100, 10_000, 60_000];
        let log = async || {
            let status = sqlx::query("show master status").fetch_one(&pool).await;
            status.unwrap().get::<u64, _>("Position")
        };
        touches_write_the_same("MariaDB, binary log", &store, &sizes, log).await;
        let log = async || {
            let written = "select cast(variable_value as unsigned) from information_schema.global_status \
                where variable_name = 'INNODB_LSN_CURRENT'";
            sqlx::query_scalar::<_, u64>(written)
                .fetch_one(&pool)
                .await
                .unwrap()
        };
        touches_write_the_same("MariaDB, redo log", &store, &sizes, log).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    #[cfg_attr(without_own_redis, ignore = "redis-server is not installed")]
    async fn on_redis() {
        let sizes = [100, 10_000, 1_000_000];
        let server = OwnServer::redis(&[]);
        let backend = RedisRs::at(&format!("redis://127.0.0.1:{}", server.port())).await;
        let log = async || {
            let info = redis::cmd("INFO").arg("persistence").to_owned();
            let info: String = info
                .query_async(&mut backend.connection.clone())
                .await
                .unwrap();
            let size = info
                .lines()
                .find_map(|line| line.strip_prefix("aof_current_size:"));
            size.unwrap().trim().parse().unwrap()
        };
        touches_write_the_same("Redis, append-only file", &backend.touching(), &sizes, log).await;
    }
}
