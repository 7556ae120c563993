//! What a request costs, not due, with 1,000 to 1,000,000 sessions of 1 KB in the store, into `results/scale.tsv`.

use std::{fmt::Write as _, fs};

use session_refresh_cost::{COOKIE, LIFETIME, record};
use session_refresh_load::{
    fill::{fill, remove},
    measure::{Reading, Server},
    results,
};
use time::OffsetDateTime;

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
        let mut ids = Vec::new();
        for sessions in SESSIONS {
            let more = (ids.len()..sessions).map(|_| {
                let record = record(1_000, OffsetDateTime::now_utc() + LIFETIME);
                ids.push(record.id.to_string());
                record
            });
            fill(store, more).await;
            // Evenly out of all of them, for each way its own: they write differently.
            let step = (sessions / VISITED).max(WAYS.len());
            for (place, server) in servers.iter().enumerate() {
                let visited: Vec<_> = ids
                    .iter()
                    .skip(place)
                    .step_by(step)
                    .map(|id| format!("{COOKIE}={id}"))
                    .collect();
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
        remove(store, &ids).await;
    }
    fs::write(results("scale.tsv"), lines).expect("the results can be written");
}
