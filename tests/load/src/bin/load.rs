//! Loads every server in turn with wrk and writes what that cost into `results/load.tsv`: `load [ROUNDS] [SECONDS] [STORE]..`.
//!
//! All requests are ones whose session is not due. Ways are interleaved within a round, so that what else the machine
//! does meets all of them alike. It wants Linux (`/proc`), wrk, psql, and the servers' URLs in the environment.

use std::{fmt::Write as _, fs, path::Path};

use session_refresh_load::{
    PEERS, STORES, WAYS,
    measure::{Reading, Server},
    results,
};

/// What a session holds, in bytes of JSON.
const SIZES: [usize; 2] = [1_000, 10_000];
/// Enough sessions that no connection waits for another's.
const SESSIONS: usize = 256;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let mut number = |default| {
        arguments
            .next()
            .map_or(default, |text| text.parse().expect("a number"))
    };
    let (rounds, seconds) = (number(7), number(2));
    let mut stores: Vec<_> = arguments.collect();
    if stores.is_empty() {
        stores.extend(STORES.map(str::to_owned));
    }
    let folder = tempfile::tempdir().expect("there is room for temporary files");
    let mut lines = String::from(
        "store\tbytes\tway\tround\trequests\terrors\trequests_per_second\tp50_us\tp90_us\tp99_us\t\
         server_cpu_us_per_request\tstore_cpu_us_per_request\twrites_per_1000\tbytes_written_per_1000\n",
    );
    for store in &stores {
        for bytes in SIZES {
            load(store, bytes, rounds, seconds, folder.path(), &mut lines);
        }
    }
    fs::write(results("load.tsv"), lines).expect("the results can be written");
}

fn load(store: &str, bytes: usize, rounds: u32, seconds: u32, folder: &Path, lines: &mut String) {
    let peers: &[_] = if store == "redis" { &PEERS } else { &[] };
    let servers: Vec<_> = (4100..)
        .zip(WAYS.iter().chain(peers))
        .map(|(port, way)| Server::start(way, store, port, folder))
        .collect();
    for server in &servers {
        server.begin(SESSIONS, bytes);
        let _warm_up = server.wrk(1);
    }
    for round in 1..=rounds {
        for server in &servers {
            let before = Reading::of(store, server);
            let figures = server.wrk(seconds);
            let after = Reading::of(store, server);
            let [requests, microseconds, errors, p50, p90, p99] = figures;
            let per_request = |was: u64, is: u64| (is - was) as f64 / 1000.0 / requests as f64;
            let per_1000 = |was: u64, is: u64| (is - was) as f64 * 1000.0 / requests as f64;
            let line = format!(
                "{store}\t{bytes}\t{}\t{round}\t{requests}\t{errors}\t{:.0}\t{p50}\t{p90}\t{p99}\t{:.2}\t{:.2}\t{}\t{:.0}",
                server.way,
                requests as f64 * 1e6 / microseconds as f64,
                per_request(before.server_ns, after.server_ns),
                after.store_ns_since(&before) as f64 / 1000.0 / requests as f64,
                before
                    .writes
                    .zip(after.writes)
                    .map_or_else(String::new, |(was, is)| {
                        format!("{:.1}", per_1000(was, is))
                    }),
                per_1000(before.bytes, after.bytes),
            );
            println!("{line}");
            let _ = writeln!(lines, "{line}");
        }
    }
}
