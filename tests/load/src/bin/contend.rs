//! 1 to 1,024 requests at once on one due session, and one request at once on each of 1,000 due sessions, per store, into
//! `results/contention.tsv` and `results/crowd.tsv`: `contend [ROUNDS]`.

use std::{
    fmt::Write as _,
    fs,
    net::Ipv4Addr,
    sync::Arc,
    time::{Duration, Instant},
};

use session_refresh::store;
use session_refresh_cost::{INTERVAL, LIFETIME};
use session_refresh_load::{STORES, fill, measure::Server, results};
use time::OffsetDateTime;
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
    let mut lines = String::from("store\tround\tsessions\trefreshed\tseconds\tp50_us\tp99_us\n");
    for store in STORES {
        crowd(store, rounds.min(5), &mut lines).await;
    }
    fs::write(results("crowd.tsv"), lines).expect("the results can be written");
}

async fn crowd(store: &str, rounds: u32, lines: &mut String) {
    const SESSIONS: usize = 1_000;
    let folder = tempfile::tempdir().expect("there is room for temporary files");
    let server = Server::start("session-refresh", store, PORT, folder.path());
    let cookies: Vec<_> = (0..SESSIONS)
        .map(|_| server.cookie("/start/1000"))
        .collect();
    for round in 1..=rounds {
        age(store, &cookies, &server.file.to_string_lossy()).await;
        let answers = at_once(&cookies).await;
        let refreshed = answers.iter().filter(|(_, wrote)| *wrote).count();
        let mut latencies: Vec<_> = answers.into_iter().map(|(latency, _)| latency).collect();
        latencies.sort_unstable();
        let line = format!(
            "{store}\t{round}\t{SESSIONS}\t{refreshed}\t{:.2}\t{}\t{}",
            latencies[latencies.len() - 1].as_secs_f64(),
            percentile(&latencies, 50),
            percentile(&latencies, 99),
        );
        println!("{line}");
        let _ = writeln!(lines, "{line}");
    }
}

/// In microseconds.
fn percentile(sorted: &[Duration], part: usize) -> u128 {
    sorted[(sorted.len() - 1) * part / 100].as_micros()
}

/// A request with each of these cookies, all at once: how long each took, and whether it has refreshed its session.
async fn at_once(cookies: &[String]) -> Vec<(Duration, bool)> {
    let barrier = Arc::new(Barrier::new(cookies.len()));
    let tasks: Vec<_> = (cookies.iter().cloned())
        .map(|cookie| {
            let barrier = Arc::clone(&barrier);
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
    let mut answers = Vec::new();
    for task in tasks {
        answers.push(task.await.expect("a request is answered"));
    }
    answers
}

async fn contend(store: &str, rounds: u32, lines: &mut String) {
    let folder = tempfile::tempdir().expect("there is room for temporary files");
    let server = Server::start("session-refresh", store, PORT, folder.path());
    let cookie = server.cookie("/start/1000");
    for requests in (0..=10).map(|power| 1_usize << power) {
        let (mut writes, mut latencies, mut seconds) = (0, Vec::new(), 0.0);
        for _ in 0..rounds {
            age(
                store,
                std::slice::from_ref(&cookie),
                &server.file.to_string_lossy(),
            )
            .await;
            let answers = at_once(&vec![cookie.clone(); requests]).await;
            let longest = answers.iter().map(|(latency, _)| *latency).max();
            seconds += longest.unwrap_or_default().as_secs_f64();
            for (latency, wrote) in answers {
                latencies.push(latency);
                writes += u32::from(wrote);
            }
        }
        assert_eq!(writes, rounds, "one of {requests} writes");
        latencies.sort_unstable();
        let line = format!(
            "{store}\t{requests}\t{rounds}\t{}\t{:.0}\t{}\t{}",
            f64::from(writes) / f64::from(rounds),
            latencies.len() as f64 / seconds,
            percentile(&latencies, 50),
            percentile(&latencies, 99),
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

/// Makes the sessions as old as if they had been refreshed 25 hours ago.
async fn age(store: &str, cookies: &[String], file: &str) {
    let ids = cookies.iter().map(|cookie| {
        let id = cookie.split_once('=').expect("a cookie has a value").1;
        id.parse().expect("it is an id")
    });
    match store {
        "redis" => aged(store::RedisStore::new(fill::redis().await), ids).await,
        "postgres" => aged(store::PostgresStore::new(fill::postgres().await), ids).await,
        _ => {
            let pool = sqlx::SqlitePool::connect(file)
                .await
                .expect("the file is there");
            aged(store::SqliteStore::new(pool), ids).await;
        }
    }
}

async fn aged(store: impl SessionStore, ids: impl Iterator<Item = Id>) {
    for id in ids {
        let record = store.load(&id).await.expect("the store answers");
        let mut record = record.expect("the session is there");
        record.expiry_date = OffsetDateTime::now_utc() + LIFETIME - INTERVAL - time::Duration::HOUR;
        store.save(&record).await.expect("the store answers");
    }
}
