//! Loads every server in turn with wrk and writes what that cost into `results/load.tsv`: `load [ROUNDS] [SECONDS] [STORE]..`.
//!
//! All requests are ones whose session is not due. Ways are interleaved within a round, so that what else the machine
//! does meets all of them alike. It wants Linux (`/proc`), wrk, psql, and the servers' URLs in the environment.

use std::{
    collections::HashMap,
    fmt::Write as _,
    fs,
    io::{Read as _, Write as _},
    net::{Ipv4Addr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command},
    time::Duration,
};

use session_refresh_load::{PEERS, STORES, WAYS, url};

/// What a session holds, in bytes of JSON.
const SIZES: [usize; 2] = [1_000, 10_000];
/// Enough sessions that no connection waits for another's.
const SESSIONS: usize = 256;
const CONNECTIONS: usize = 32;

/// Takes the sessions in turn, and prints its figures in one line.
const SCRIPT: &str = r#"
local requests = {}
function init()
  for cookie in io.lines(os.getenv("COOKIES")) do
    requests[#requests + 1] = wrk.format("GET", "/", { Cookie = cookie })
  end
end
local turn = 0
function request()
  turn = turn % #requests + 1
  return requests[turn]
end
function done(summary, latency)
  local e = summary.errors
  io.write(string.format("FIGURES %d %d %d %d %d %d\n", summary.requests, summary.duration,
    e.connect + e.read + e.write + e.status + e.timeout,
    latency:percentile(50), latency:percentile(90), latency:percentile(99)))
end
"#;

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
    let folder = std::env::temp_dir().join(format!("session-refresh-load-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("there is room for temporary files");
    fs::write(folder.join("load.lua"), SCRIPT).expect("a script can be written");
    let mut lines = String::from(
        "store\tbytes\tway\tround\trequests\terrors\trequests_per_second\tp50_us\tp90_us\tp99_us\t\
         server_cpu_us_per_request\tstore_cpu_us_per_request\twrites_per_1000\tbytes_written_per_1000\n",
    );
    for store in &stores {
        for bytes in SIZES {
            load(store, bytes, rounds, seconds, &folder, &mut lines);
        }
    }
    let results = concat!(env!("CARGO_MANIFEST_DIR"), "/results/load.tsv");
    fs::write(results, lines).expect("the results can be written");
    fs::remove_dir_all(&folder).expect("they can be removed");
}

fn load(store: &str, bytes: usize, rounds: u32, seconds: u32, folder: &Path, lines: &mut String) {
    let peers: &[_] = if store == "redis" { &PEERS } else { &[] };
    let servers: Vec<_> = (4100..)
        .zip(WAYS.iter().chain(peers))
        .map(|(port, way)| Server::start(way, store, port, bytes, folder))
        .collect();
    for server in &servers {
        server.wrk(1);
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
                "{store}\t{bytes}\t{}\t{round}\t{requests}\t{errors}\t{:.0}\t{p50}\t{p90}\t{p99}\t{:.2}\t{:.2}\t{:.1}\t{:.0}",
                server.way,
                requests as f64 * 1e6 / microseconds as f64,
                per_request(before.server_ns, after.server_ns),
                after.store_ns_since(&before) as f64 / 1000.0 / requests as f64,
                per_1000(before.writes, after.writes),
                per_1000(before.bytes, after.bytes),
            );
            println!("{line}");
            let _ = writeln!(lines, "{line}");
        }
    }
}

/// A server in a process of its own, and the cookies of its sessions.
struct Server {
    way: &'static str,
    port: u16,
    process: Child,
    folder: PathBuf,
}

impl Server {
    fn start(way: &'static str, store: &str, port: u16, bytes: usize, folder: &Path) -> Self {
        let beside = std::env::current_exe().expect("this program has a path");
        let process = Command::new(beside.with_file_name("serve"))
            .args([way, store, &port.to_string()])
            .arg(folder.join(format!("{way}-{bytes}.sqlite3")))
            .spawn()
            .expect("the server has been built: `cargo build --release`");
        let server = Self {
            way,
            port,
            process,
            folder: folder.to_owned(),
        };
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            std::thread::sleep(Duration::from_millis(50));
        }
        let mut cookies = String::new();
        for _ in 0..SESSIONS {
            let _ = writeln!(cookies, "{}", server.cookie(&format!("/start/{bytes}")));
        }
        fs::write(server.cookies(), cookies).expect("the cookies can be written");
        server
    }

    fn cookies(&self) -> PathBuf {
        self.folder.join(self.way)
    }

    /// What a browser would send back after this request.
    fn cookie(&self, path: &str) -> String {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).expect("it listens");
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        )
        .expect("it reads");
        let mut response = String::new();
        stream.read_to_string(&mut response).expect("it answers");
        assert!(
            response.starts_with("HTTP/1.1 200"),
            "{}: {response}",
            self.way
        );
        let cookies: Vec<_> = response
            .lines()
            .filter_map(|line| line.strip_prefix("set-cookie: ")?.split(';').next())
            .filter(|cookie| !cookie.ends_with('='))
            .collect();
        cookies.join("; ")
    }

    /// The script's six figures.
    fn wrk(&self, seconds: u32) -> [u64; 6] {
        let output = Command::new("wrk")
            .args(["--threads", "1", "--connections", &CONNECTIONS.to_string()])
            .args(["--duration", &format!("{seconds}s"), "--script"])
            .arg(self.folder.join("load.lua"))
            .arg(format!("http://127.0.0.1:{}/", self.port))
            .env("COOKIES", self.cookies())
            .output()
            .expect("wrk runs");
        let output = String::from_utf8_lossy(&output.stdout);
        let figures = output
            .lines()
            .find_map(|line| line.strip_prefix("FIGURES "))
            .unwrap_or_else(|| panic!("wrk says no figures: {output}"));
        let figures: Vec<_> = figures
            .split(' ')
            .map(|figure| figure.parse().expect("a figure is a number"))
            .collect();
        figures.try_into().expect("they are six")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What has been used and written so far.
struct Reading {
    server_ns: u64,
    /// Of each of the store's processes: they come and go.
    store_ns: HashMap<u32, u64>,
    /// As Redis counts them. The others don't, at once: what they write says it.
    writes: u64,
    bytes: u64,
}

impl Reading {
    fn of(store: &str, server: &Server) -> Self {
        let (writes, bytes) = match store {
            "redis" => {
                let info = redis_info();
                let field = |name: &str| {
                    info.lines()
                        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':')?.parse().ok())
                        .expect("Redis says so")
                };
                // Bytes that reach it: Redis writes nothing to a disk here.
                (
                    field("rdb_changes_since_last_save"),
                    field("total_net_input_bytes"),
                )
            }
            "postgres" => {
                let bytes = psql("select pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')");
                (0, bytes.trim().parse().expect("a number"))
            }
            _ => {
                let io = fs::read_to_string(format!("/proc/{}/io", server.process.id()));
                let bytes = io
                    .expect("the server runs")
                    .lines()
                    .find_map(|line| line.strip_prefix("write_bytes: ")?.parse().ok());
                (0, bytes.expect("the kernel counts"))
            }
        };
        Self {
            server_ns: cpu_ns(server.process.id()),
            store_ns: match store {
                "redis" => processes("redis-server"),
                "postgres" => processes("postgres"),
                _ => HashMap::new(), // SQLite runs in the server.
            },
            writes,
            bytes,
        }
    }
}

impl Reading {
    fn store_ns_since(&self, before: &Self) -> u64 {
        let processes = self.store_ns.iter();
        processes
            .map(|(id, ns)| ns.saturating_sub(before.store_ns.get(id).copied().unwrap_or(0)))
            .sum()
    }
}

fn redis_info() -> String {
    let url = url("REDIS_URL");
    let address = url
        .trim_start_matches("redis://")
        .split('/')
        .next()
        .unwrap_or_default();
    let mut stream = TcpStream::connect(address).expect("Redis answers");
    stream.write_all(b"INFO\r\nQUIT\r\n").expect("Redis reads");
    let mut info = String::new();
    stream.read_to_string(&mut info).expect("Redis answers");
    info
}

fn psql(query: &str) -> String {
    let output = Command::new("psql")
        .args([
            &url("POSTGRES_URL"),
            "--no-align",
            "--tuples-only",
            "--command",
            query,
        ])
        .output()
        .expect("psql runs");
    String::from_utf8(output.stdout).expect("it answers in text")
}

/// The CPU time of each process of a name.
fn processes(name: &str) -> HashMap<u32, u64> {
    let processes = fs::read_dir("/proc").expect("this is Linux").flatten();
    processes
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|id: &u32| {
            fs::read_to_string(format!("/proc/{id}/comm")).is_ok_and(|comm| comm.trim() == name)
        })
        .map(|id| (id, cpu_ns(id)))
        .collect()
}

/// The CPU time of all of a process's threads.
fn cpu_ns(process: u32) -> u64 {
    let Ok(threads) = fs::read_dir(format!("/proc/{process}/task")) else {
        return 0;
    };
    threads
        .flatten()
        .filter_map(|thread| fs::read_to_string(thread.path().join("schedstat")).ok())
        .filter_map(|statistics| statistics.split(' ').next()?.parse::<u64>().ok())
        .sum()
}
