//! Servers in processes of their own, requests from another, and what both have used.

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

use crate::url;

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

/// A server in a process of its own, and the cookies of its sessions.
pub struct Server {
    pub way: &'static str,
    port: u16,
    process: Child,
    /// SQLite's.
    pub file: PathBuf,
    folder: PathBuf,
}

impl Server {
    /// Starts it and waits until it listens.
    #[must_use]
    pub fn start(way: &'static str, store: &str, port: u16, folder: &Path) -> Self {
        let beside = std::env::current_exe().expect("this program has a path");
        let file = folder.join(format!("{way}-{port}.sqlite3"));
        // Pavex can't be built together with axum.
        let program = if way == "pavex_session" {
            "serve-pavex"
        } else {
            "serve"
        };
        let process = Command::new(beside.with_file_name(program))
            .args([way, store, &port.to_string()])
            .arg(&file)
            .spawn()
            .expect("the servers have been built: the guide `costs` says how");
        let server = Self {
            way,
            port,
            process,
            file,
            folder: folder.to_owned(),
        };
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            std::thread::sleep(Duration::from_millis(50));
        }
        fs::write(folder.join("load.lua"), SCRIPT).expect("a script can be written");
        server
    }

    /// Begins sessions of a size, which the requests take in turn.
    pub fn begin(&self, sessions: usize, bytes: usize) {
        let mut cookies = String::new();
        for _ in 0..sessions {
            let _ = writeln!(cookies, "{}", self.cookie(&format!("/start/{bytes}")));
        }
        self.send(&cookies);
    }

    /// The cookies that the requests bear in turn, each on a line of its own.
    pub fn send(&self, cookies: &str) {
        fs::write(self.cookies(), cookies).expect("the cookies can be written");
    }

    fn cookies(&self) -> PathBuf {
        self.folder.join(self.way)
    }

    /// Where the page is.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/", self.port)
    }

    /// What a browser would send back after this request.
    #[must_use]
    pub fn cookie(&self, path: &str) -> String {
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

    /// Sends requests as fast as they are answered. The script's six figures: requests, microseconds, errors, and the 50th,
    /// 90th and 99th percentile of the latency in microseconds.
    #[must_use]
    pub fn wrk(&self, seconds: u32) -> [u64; 6] {
        let output = Command::new("wrk")
            .args(["--threads", "1", "--connections", &CONNECTIONS.to_string()])
            .args(["--duration", &format!("{seconds}s"), "--script"])
            .arg(self.folder.join("load.lua"))
            .arg(self.url())
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
pub struct Reading {
    pub server_ns: u64,
    /// Of each of the store's processes: they come and go.
    store_ns: HashMap<u32, u64>,
    /// As Redis counts them. The others don't, at once: what they write says it.
    pub writes: Option<u64>,
    /// What has reached a disk, or on Redis the socket.
    pub bytes: u64,
}

impl Reading {
    /// Of a server and the store behind it.
    #[must_use]
    pub fn of(store: &str, server: &Server) -> Self {
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
                    Some(field("rdb_changes_since_last_save")),
                    field("total_net_input_bytes"),
                )
            }
            "postgres" => {
                let bytes = psql("select pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')");
                (None, bytes.trim().parse().expect("a number"))
            }
            _ => {
                let io = fs::read_to_string(format!("/proc/{}/io", server.process.id()));
                let bytes = io
                    .expect("the server runs")
                    .lines()
                    .find_map(|line| line.strip_prefix("write_bytes: ")?.parse().ok());
                (None, bytes.expect("the kernel counts"))
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

    /// What the store has used.
    #[must_use]
    pub fn store_ns_since(&self, before: &Self) -> u64 {
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
