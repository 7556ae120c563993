//! What a request costs, not due, with 1,000 to 1,000,000 sessions of 1 KB in the store, into `results/scale.tsv`.

use std::{fmt::Write as _, fs};

use redis::Commands as _;
use session_refresh_cost::record;
use session_refresh_load::{
    measure::{Reading, Server},
    results, url,
};
use time::{Duration, OffsetDateTime};
use tower_sessions::session::Record;

const WAYS: [&str; 3] = ["floor", "always-save", "session-refresh"];
const SESSIONS: [usize; 4] = [1_000, 10_000, 100_000, 1_000_000];
const ROUNDS: usize = 3;
/// How many of the sessions have a visitor while it is measured.
const VISITED: usize = 5_000;

#[tokio::main]
async fn main() {
    let folder = tempfile::tempdir().expect("there is room for temporary files");
    let mut lines = String::from(
        "store\tsessions\tway\tround\tserver_cpu_us_per_request\tstore_cpu_us_per_request\tp99_us\n",
    );
    for store in ["redis", "postgres"] {
        let servers: Vec<_> = (4300..)
            .zip(WAYS)
            .map(|(port, way)| Server::start(way, store, port, folder.path()))
            .collect();
        let (mut filled, mut cookies) = (0, Vec::new());
        for sessions in SESSIONS {
            while filled < sessions {
                let batch = records(5_000.min(sessions - filled));
                filled += batch.len();
                cookies.extend(batch.iter().map(|record| format!("id={}", record.id)));
                fill(store, &batch).await;
            }
            // Evenly out of all of them.
            let step = (cookies.len() / VISITED).max(1);
            let visited: Vec<_> = cookies.iter().step_by(step).cloned().collect();
            for server in &servers {
                server.send(&visited.join("\n"));
                let _warm_up = server.wrk(1);
            }
            for round in 1..=ROUNDS {
                for server in &servers {
                    let before = Reading::of(store, server);
                    let [requests, _, errors, _, _, p99] = server.wrk(2);
                    let after = Reading::of(store, server);
                    assert_eq!(errors, 0, "{} answers", server.way);
                    let per_request = |ns: u64| ns as f64 / 1000.0 / requests as f64;
                    let line = format!(
                        "{store}\t{sessions}\t{}\t{round}\t{:.2}\t{:.2}\t{p99}",
                        server.way,
                        per_request(after.server_ns - before.server_ns),
                        per_request(after.store_ns_since(&before)),
                    );
                    println!("{line}");
                    let _ = writeln!(lines, "{line}");
                }
            }
        }
        drop(servers);
        remove(store, &cookies).await;
    }
    fs::write(results("scale.tsv"), lines).expect("the results can be written");
}

fn records(number: usize) -> Vec<Record> {
    let expiry = OffsetDateTime::now_utc() + Duration::days(14);
    (0..number).map(|_| record(1_000, expiry)).collect()
}

/// Puts records where tower-sessions' own stores put them.
async fn fill(store: &str, records: &[Record]) {
    let encoded = records.iter().map(|record| {
        let bytes = rmp_serde::to_vec(record).expect("a record can be encoded");
        (record.id.to_string(), bytes, record.expiry_date)
    });
    if store == "redis" {
        let mut pipeline = redis::pipe();
        for (id, bytes, expiry) in encoded {
            pipeline
                .cmd("SET")
                .arg(id)
                .arg(bytes)
                .arg("EXAT")
                .arg(expiry.unix_timestamp())
                .ignore();
        }
        let () = pipeline.query(&mut connection()).expect("Redis takes them");
    } else {
        let (mut ids, mut data, mut expiries) = (Vec::new(), Vec::new(), Vec::new());
        for (id, bytes, expiry) in encoded {
            ids.push(id);
            data.push(bytes);
            expiries.push(expiry);
        }
        let pool = sqlx::PgPool::connect(&url("POSTGRES_URL"))
            .await
            .expect("PostgreSQL answers");
        sqlx::query("insert into tower_sessions.session (id, data, expiry_date) select * from unnest($1, $2, $3)")
            .bind(ids)
            .bind(data)
            .bind(expiries)
            .execute(&pool)
            .await
            .expect("PostgreSQL takes them");
    }
}

async fn remove(store: &str, cookies: &[String]) {
    let ids: Vec<_> = cookies
        .iter()
        .map(|cookie| cookie.trim_start_matches("id=").to_owned())
        .collect();
    if store == "redis" {
        let mut connection = connection();
        for ids in ids.chunks(10_000) {
            let () = connection.del(ids).expect("Redis removes them");
        }
    } else {
        let pool = sqlx::PgPool::connect(&url("POSTGRES_URL"))
            .await
            .expect("PostgreSQL answers");
        sqlx::query("delete from tower_sessions.session where id = any($1)")
            .bind(ids)
            .execute(&pool)
            .await
            .expect("PostgreSQL removes them");
    }
}

fn connection() -> redis::Connection {
    let client = redis::Client::open(url("REDIS_URL")).expect("it is a URL");
    client.get_connection().expect("Redis answers")
}
