//! 1 to 256 requests at once on one due session, per store, into `results/contention.tsv`: `contend [ROUNDS]`.

use std::{fmt::Write as _, fs, net::Ipv4Addr, sync::Arc, time::Instant};

use session_refresh::store;
use session_refresh_cost::{INTERVAL, LIFETIME};
use session_refresh_load::{STORES, fill, measure::Server, results};
use time::{Duration, OffsetDateTime};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::Barrier,
};
use tower_sessions::{SessionStore, session::Id};

const PORT: u16 = 4200;

#[tokio::main]
async fn main() {
    let rounds = std::env::args()
        .nth(1)
        .map_or(25, |text| text.parse().expect("a number"));
    let mut lines = String::from(
        "store\trequests\trounds\twrites_per_round\trequests_per_second\tp50_us\tp99_us\n",
    );
    for store in STORES {
        contend(store, rounds, &mut lines).await;
    }
    fs::write(results("contention.tsv"), lines).expect("the results can be written");
}

async fn contend(store: &str, rounds: u32, lines: &mut String) {
    let folder = tempfile::tempdir().expect("there is room for temporary files");
    let server = Server::start("session-refresh", store, PORT, folder.path());
    let cookie = server.cookie("/start/1000");
    for requests in (0..9).map(|power| 1_usize << power) {
        let (mut writes, mut latencies, mut seconds) = (0, Vec::new(), 0.0);
        for _ in 0..rounds {
            age(store, &cookie, &server.file.to_string_lossy()).await;
            let barrier = Arc::new(Barrier::new(requests + 1));
            let tasks: Vec<_> = (0..requests)
                .map(|_| {
                    let (barrier, cookie) = (Arc::clone(&barrier), cookie.clone());
                    tokio::spawn(async move {
                        let mut stream = connect().await;
                        barrier.wait().await;
                        let begin = Instant::now();
                        let response = request(&mut stream, &cookie).await;
                        assert!(response.starts_with("HTTP/1.1 200"), "{response}");
                        // The cookie goes out with a write, and only then.
                        (begin.elapsed(), response.contains("set-cookie"))
                    })
                })
                .collect();
            barrier.wait().await;
            let begin = Instant::now();
            for task in tasks {
                let (latency, wrote) = task.await.expect("a request is answered");
                latencies.push(latency);
                writes += u32::from(wrote);
            }
            seconds += begin.elapsed().as_secs_f64();
        }
        assert_eq!(writes, rounds, "one of {requests} writes");
        latencies.sort_unstable();
        let percentile = |part: usize| latencies[(latencies.len() - 1) * part / 100].as_micros();
        let line = format!(
            "{store}\t{requests}\t{rounds}\t{}\t{:.0}\t{}\t{}",
            f64::from(writes) / f64::from(rounds),
            latencies.len() as f64 / seconds,
            percentile(50),
            percentile(99),
        );
        println!("{line}");
        let _ = writeln!(lines, "{line}");
    }
}

async fn connect() -> TcpStream {
    TcpStream::connect((Ipv4Addr::LOCALHOST, PORT))
        .await
        .expect("the server listens")
}

async fn request(stream: &mut TcpStream, cookie: &str) -> String {
    let request = format!(
        "GET / HTTP/1.1\r\nHost: localhost\r\nCookie: {cookie}\r\nConnection: close\r\n\r\n"
    );
    stream
        .write_all(request.as_bytes())
        .await
        .expect("the server reads");
    let mut response = String::new();
    stream
        .read_to_string(&mut response)
        .await
        .expect("the server answers");
    response
}

/// Makes the session as old as if it had been refreshed 25 hours ago.
async fn age(store: &str, cookie: &str, file: &str) {
    let id = cookie.split_once('=').expect("a cookie has a value").1;
    let id = id.parse().expect("it is an id");
    match store {
        "redis" => aged(store::RedisStore::new(fill::redis().await), id).await,
        "postgres" => aged(store::PostgresStore::new(fill::postgres().await), id).await,
        _ => {
            let pool = sqlx::SqlitePool::connect(file)
                .await
                .expect("the file is there");
            aged(store::SqliteStore::new(pool), id).await;
        }
    }
}

async fn aged(store: impl SessionStore, id: Id) {
    let record = store.load(&id).await.expect("the store answers");
    let mut record = record.expect("the session is there");
    record.expiry_date = OffsetDateTime::now_utc() + LIFETIME - INTERVAL - Duration::HOUR;
    store.save(&record).await.expect("the store answers");
}
