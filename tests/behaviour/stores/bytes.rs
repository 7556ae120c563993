//! What a refresh sends to the store: the same few bytes, whatever the session holds.

use std::{
    env,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use session_refresh::store::{MySqlStore, PostgresStore, RedisStore, Touch, Touched};
use session_refresh_tests::backends::{Backend, MySql, Postgres, Redis};
use time::{Duration, OffsetDateTime};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, tcp::OwnedReadHalf, tcp::OwnedWriteHalf},
};
use tower_sessions::{
    SessionStore,
    session::{Id, Record},
};

/// Stands between a store and its server and counts what the store sends.
struct Wire {
    /// The server's URL, by way of the wire.
    url: String,
    sent: Arc<AtomicUsize>,
}

impl Wire {
    async fn to(variable: &str, default_port: u16) -> Option<Self> {
        let url = env::var(variable).ok()?;
        let (scheme, rest) = url.split_once("://")?;
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
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let at = if login.is_empty() { "" } else { "@" };
        let sent = Arc::<AtomicUsize>::default();
        let counter = Arc::clone(&sent);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(&server).await.unwrap();
                let ((from_client, to_client), (from_server, to_server)) =
                    (client.into_split(), server.into_split());
                tokio::spawn(pump(from_client, to_server, Arc::clone(&counter)));
                tokio::spawn(pump(from_server, to_client, Arc::default()));
            }
        });
        Some(Self {
            url: format!("{scheme}://{login}{at}127.0.0.1:{port}/{path}"),
            sent,
        })
    }
}

async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, count: Arc<AtomicUsize>) {
    let mut buffer = vec![0; 65_536];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        count.fetch_add(read, Ordering::SeqCst);
        if to.write_all(&buffer[..read]).await.is_err() {
            break;
        }
    }
}

/// Touches sessions of several sizes through the wire; each touch must send the same number of bytes.
async fn touches_send_the_same<B: Backend>(
    name: &str,
    wire: &Wire,
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
        let before = wire.sent.load(Ordering::SeqCst);
        assert_eq!(
            store.touch(record.id.into(), expiry, expiry).await.unwrap(),
            Touched::Done
        );
        sent.push(wire.sent.load(Ordering::SeqCst) - before);
    }
    let sent = &sent[2..];
    println!("{name}: sessions of {sizes:?} bytes, bytes sent per touch {sent:?}");
    // sqlx ends a statement with five bytes that may be sent after it has answered, and so fall into the next count.
    let (least, most) = (sent.iter().min().unwrap(), sent.iter().max().unwrap());
    assert!(most - least <= 5, "{name}: {sent:?}");
    assert!(sent[0] < 512, "{name}: {sent:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_bytes_of_a_refresh_do_not_grow_with_the_session() {
    let sizes = [100, 10_000, 1_000_000];
    if let Some(backend) = Postgres::connect().await {
        let wire = Wire::to("POSTGRES_URL", 5432).await.unwrap();
        let options = sqlx::postgres::PgPoolOptions::new()
            .max_connections(1)
            .test_before_acquire(false);
        let pool = options.connect(&wire.url).await.unwrap();
        touches_send_the_same(
            "PostgreSQL",
            &wire,
            &backend,
            &PostgresStore::new(pool),
            &sizes,
        )
        .await;
    }
    if let Some(backend) = MySql::connect().await {
        let wire = Wire::to("MYSQL_URL", 3306).await.unwrap();
        let options = sqlx::mysql::MySqlPoolOptions::new()
            .max_connections(1)
            .test_before_acquire(false);
        let pool = options.connect(&wire.url).await.unwrap();
        touches_send_the_same(
            "MySQL",
            &wire,
            &backend,
            &MySqlStore::new(pool),
            &[100, 10_000, 60_000],
        )
        .await;
    }
    if let Some(backend) = Redis::connect().await {
        let wire = Wire::to("REDIS_URL", 6379).await.unwrap();
        let store = RedisStore::new(Redis::at(&wire.url).await.pool);
        touches_send_the_same("Redis", &wire, &backend, &store, &sizes).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_redis_a_load_asks_for_no_more_than_a_plain_stores() {
    let Some(backend) = Redis::connect().await else {
        return;
    };
    let wire = Wire::to("REDIS_URL", 6379).await.unwrap();
    let behind = Redis::at(&wire.url).await;
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
        let before = wire.sent.load(Ordering::SeqCst);
        assert!(store.load(&record.id).await.unwrap().is_some());
        *sent = wire.sent.load(Ordering::SeqCst) - before;
    }
    assert_eq!(sent[0], sent[1]);
    backend.touching().delete(&record.id).await.unwrap();
}
