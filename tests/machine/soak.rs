//! Users who come and go for a long time, on two processes and one store, while processes and stores are killed.
//!
//! Whoever is active stays in, whoever is idle is out on time, and neither memory nor connections grow. `SOAK_SECONDS` says for
//! how long; without it they are skipped. There are `SOAK_USERS`, or 100, and `SOAK_RESULTS` names a folder for what is drawn.

use std::{
    env,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration as StdDuration, Instant},
};

use axum::{Router, http::StatusCode, routing::get};
use fastrand::Rng;
use fred::prelude::{Builder, ClientLike as _, Config, Pool, ReconnectPolicy};
use session_refresh::store::{PostgresStore, RedisStore, Touch};
use session_refresh::{LifetimeLayer, Policy, RefreshLayer, SessionLifetime, session_refresh};
use session_refresh_tests::{OwnServer, free_port, telling};
use sqlx::{PgPool, postgres::PgPoolOptions};
use tokio::{net::TcpListener, task::JoinSet, time::sleep};
use tower_sessions::{Expiry, Session, SessionManagerLayer, SessionStore};

use crate::machine::{RUNTIME, memory, setting};

/// How long everything takes.
#[derive(Clone, Copy, Debug)]
struct Times {
    interval: StdDuration,
    idle: StdDuration,
    /// A session ends at the latest so long after its user has logged in.
    limit: StdDuration,
    /// By how much the second process's clock is ahead.
    ahead: StdDuration,
    /// What a request may take, and a machine that is busy with much else.
    slack: StdDuration,
}

impl Times {
    /// Short enough that everything happens often.
    fn of(length: StdDuration) -> Self {
        let seconds = |seconds| StdDuration::from_secs(seconds);
        let (interval, idle, limit, ahead) = if length < seconds(600) {
            (1, 8, 16, 5)
        } else {
            (4, 24, 240, 30)
        };
        Self {
            interval: seconds(interval),
            idle: seconds(idle),
            limit: seconds(limit),
            ahead: seconds(ahead),
            slack: seconds(3),
        }
    }
}

fn length() -> StdDuration {
    StdDuration::from_secs(setting("SOAK_SECONDS", 0))
}

/// How long a user waits for an answer.
const PATIENCE: StdDuration = StdDuration::from_secs(30);
/// As many as a process's pool has connections.
const POOL: u32 = 5;

#[session_refresh]
async fn page(session: Session) -> Result<String, StatusCode> {
    let said = session.get::<u64>("visits").await;
    match said.map_err(|_| StatusCode::SERVICE_UNAVAILABLE)? {
        Some(visits) => Ok(visits.to_string()),
        None => Err(StatusCode::UNAUTHORIZED),
    }
}

/// Counts, so that a write that got lost is seen.
#[session_refresh]
async fn visit(session: Session) -> Result<String, StatusCode> {
    let failed = |_| StatusCode::SERVICE_UNAVAILABLE;
    let visits = session.get::<u64>("visits").await.map_err(failed)?;
    let visits = visits.ok_or(StatusCode::UNAUTHORIZED)? + 1;
    session.insert("visits", visits).await.map_err(failed)?;
    session.save().await.map_err(failed)?;
    Ok(visits.to_string())
}

async fn log_in(session: Session, lifetime: SessionLifetime) -> Result<(), StatusCode> {
    let failed = |_| StatusCode::SERVICE_UNAVAILABLE;
    session.cycle_id().await.map_err(failed)?;
    session.insert("visits", 0).await.map_err(failed)?;
    lifetime.restart();
    session.save().await.map_err(failed)
}

async fn log_out(session: Session) -> Result<(), StatusCode> {
    session
        .flush()
        .await
        .map_err(|_| StatusCode::SERVICE_UNAVAILABLE)
}

#[test]
#[ignore = "started by the tests below"]
fn serves() {
    let store = env::var("SOAK_STORE").expect("a test starts it");
    let url = env::var("SOAK_URL").expect("it says where the store is");
    RUNTIME.block_on(async {
        if store == "postgres" {
            let pool = PgPoolOptions::new().max_connections(POOL).connect(&url);
            let store = PostgresStore::new(pool.await.expect("PostgreSQL answers"));
            serve(store).await;
        } else {
            serve(RedisStore::new(redis(&url).await)).await;
        }
    });
}

/// As the guide to operating has it: it connects again, and waits for no answer for ever.
async fn redis(url: &str) -> Pool {
    let config = Config::from_url(url).expect("it says where Redis is");
    let mut builder = Builder::from_config(config);
    let pool = builder
        .with_performance_config(|config| {
            config.default_command_timeout = StdDuration::from_secs(5);
        })
        .set_policy(ReconnectPolicy::new_constant(0, 50))
        .build_pool(POOL as usize)
        .expect("a pool can be built");
    pool.init().await.expect("Redis answers");
    pool
}

async fn serve<S: SessionStore + Touch + Clone>(store: S) {
    let times = Times::of(length());
    let (idle, limit) = (times.idle.try_into(), times.limit.try_into());
    let expiry = Expiry::OnInactivity(idle.expect("it is short"));
    let sessions = LifetimeLayer::new(store, move |store| {
        SessionManagerLayer::new(store)
            .with_secure(false)
            .with_expiry(expiry)
    })
    .with_max_lifetime(limit.expect("it is short"));
    let defaults = Policy::every(times.interval.try_into().expect("it is short"));
    let defaults = RefreshLayer::new().defaults(defaults);
    let app = Router::new()
        .route("/page", get(page))
        .route("/visit", get(visit))
        .route("/log_in", get(log_in))
        .route("/log_out", get(log_out))
        .layer(defaults)
        .layer(sessions);
    let address = env::var("SOAK_ADDRESS").expect("it says where to listen");
    let listener = TcpListener::bind(address).await.expect("the port is free");
    axum::serve(listener, telling(app))
        .await
        .expect("serving never ends");
}

/// A server that can be killed.
#[derive(Debug)]
struct Process {
    address: String,
    run: Command,
    child: Child,
}

impl Process {
    fn start(store: &str, url: &str, ahead: Option<&Path>) -> Self {
        let this = env::current_exe().expect("the test knows where it is");
        let mut run = Command::new(this);
        if let Some(library) = ahead {
            run.env("LD_PRELOAD", library)
                .env(
                    "FAKETIME",
                    format!("+{}s", Times::of(length()).ahead.as_secs()),
                )
                .env("DONT_FAKE_MONOTONIC", "1");
        }
        let address = format!("127.0.0.1:{}", free_port());
        run.args(["soak::serves", "--exact", "--ignored", "--nocapture"])
            .env("SOAK_STORE", store)
            .env("SOAK_URL", url)
            .env("SOAK_ADDRESS", &address)
            .stdout(Stdio::null());
        let child = run.spawn().expect("it can be started");
        Self {
            address,
            run,
            child,
        }
    }

    fn kill(&mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it was killed");
    }

    fn restart(&mut self) {
        self.child = self.run.spawn().expect("it can be started");
    }

    fn memory(&self) -> usize {
        memory(self.child.id())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// What all users know.
#[derive(Debug)]
struct Weather {
    began: Instant,
    is_over: AtomicBool,
    /// How many outages have begun or ended: what was under way then may have been lost.
    turns: AtomicUsize,
    is_stormy: AtomicBool,
    requests: AtomicUsize,
    errors: AtomicUsize,
    /// Refreshes that the store has failed, or has not done in time.
    unavailable: AtomicUsize,
    users_in: AtomicUsize,
    /// How often somebody idle was out, and how often somebody was out at the limit.
    idle_out: AtomicUsize,
    limit_out: AtomicUsize,
}

impl Weather {
    fn new() -> Self {
        Self {
            began: Instant::now(),
            is_over: AtomicBool::default(),
            turns: AtomicUsize::default(),
            is_stormy: AtomicBool::default(),
            requests: AtomicUsize::default(),
            errors: AtomicUsize::default(),
            unavailable: AtomicUsize::default(),
            users_in: AtomicUsize::default(),
            idle_out: AtomicUsize::default(),
            limit_out: AtomicUsize::default(),
        }
    }

    /// As columns of the results.
    fn figures(&self) -> String {
        let figures = [
            &self.users_in,
            &self.requests,
            &self.errors,
            &self.unavailable,
        ];
        let figures = figures.map(|figure| figure.load(Ordering::Relaxed).to_string());
        figures.join("\t")
    }
}

/// What came of a request: the number of visits, nobody is logged in, or nothing at all.
#[derive(Debug, PartialEq, Eq)]
enum Reply {
    In(u64),
    Out,
    Failed,
}

struct User {
    addresses: [String; 2],
    http: reqwest::Client,
    cookie: Option<String>,
    rng: Rng,
    weather: Arc<Weather>,
    times: Times,
    /// Whether the store has failed to extend the session in time, since it last did.
    was_unavailable: bool,
    /// What it has asked for since it has logged in, and what came of it.
    story: Vec<String>,
}

impl User {
    /// At one of the processes, and at the other one if that is down.
    async fn get(&mut self, path: &str) -> Reply {
        let first = self.rng.usize(..2);
        for process in [first, 1 - first] {
            self.weather.requests.fetch_add(1, Ordering::Relaxed);
            let mut request = self
                .http
                .get(format!("http://{}{path}", self.addresses[process]));
            if let Some(cookie) = &self.cookie {
                request = request.header("cookie", cookie);
            }
            let began = Instant::now();
            let response = match request.send().await {
                Ok(response) => response,
                Err(error) => {
                    assert!(
                        !error.is_timeout(),
                        "{path} in {process} is not answered: {:#?}",
                        self.story
                    );
                    self.weather.errors.fetch_add(1, Ordering::Relaxed);
                    self.tell(&format!(
                        "{path} in {process} fails after {:?}: {error:?}",
                        began.elapsed()
                    ));
                    continue;
                }
            };
            let status = response.status();
            if let Some(cookie) = response.headers().get("set-cookie") {
                let cookie = cookie
                    .to_str()
                    .expect("ASCII")
                    .split(';')
                    .next()
                    .unwrap_or_default();
                self.cookie = (cookie != "id=").then(|| cookie.to_owned());
            }
            let outcome = response.headers().get("x-refresh").cloned();
            let text = response.text().await;
            self.tell(&format!(
                "{path} in {process}, {:?}: {status} {outcome:?} {text:?}",
                began.elapsed()
            ));
            if outcome.is_some_and(|outcome| outcome == "unavailable") {
                self.weather.unavailable.fetch_add(1, Ordering::Relaxed);
                self.was_unavailable = true;
            }
            return match status {
                StatusCode::OK => {
                    Reply::In(text.ok().and_then(|text| text.parse().ok()).unwrap_or(0))
                }
                StatusCode::UNAUTHORIZED => Reply::Out,
                _ => {
                    assert!(
                        self.weather.is_stormy.load(Ordering::SeqCst),
                        "{status} to {path} in good weather"
                    );
                    self.weather.errors.fetch_add(1, Ordering::Relaxed);
                    Reply::Failed
                }
            };
        }
        Reply::Failed
    }

    fn tell(&mut self, line: &str) {
        self.story.push(format!(
            "{:?} turn {}: {line}",
            self.weather.began.elapsed(),
            self.turn()
        ));
    }

    async fn pause(&mut self, longest: StdDuration) {
        sleep(longest.mul_f64(self.rng.f64())).await;
    }

    /// Logs in, is active, and then idle or logs out; again and again.
    async fn live(mut self) {
        while !self.weather.is_over.load(Ordering::SeqCst) {
            self.pause(self.times.interval).await;
            self.cookie = None;
            self.story.clear();
            self.was_unavailable = false;
            if self.get("/log_in").await != Reply::In(0) || self.cookie.is_none() {
                continue;
            }
            self.weather.users_in.fetch_add(1, Ordering::Relaxed);
            self.stay().await;
            self.weather.users_in.fetch_sub(1, Ordering::Relaxed);
        }
    }

    async fn stay(&mut self) {
        let Times {
            interval,
            idle,
            limit,
            ahead,
            slack,
        } = self.times;
        let logged_in = Instant::now();
        let mut last = logged_in;
        // One that was not answered may have been served.
        let mut last_tried = logged_in;
        let mut visits = 0;
        let active = limit
            .mul_f64(self.rng.f64() * 1.5)
            .min(StdDuration::from_secs(self.rng.u64(5..300)));
        while logged_in.elapsed() < active && !self.weather.is_over.load(Ordering::SeqCst) {
            // Never so long that a refresh just not due lets the session end.
            self.pause(idle.saturating_sub(interval).mul_f64(0.5)).await;
            let (turn, began) = (self.turn(), Instant::now());
            let path = if self.rng.u8(..4) == 0 {
                "/visit"
            } else {
                "/page"
            };
            let reply = self.get(path).await;
            last_tried = Instant::now();
            // An outage may have lost what was said to be done, or have left no time for being active.
            let is_calm = turn == self.turn() && !self.weather.is_stormy.load(Ordering::SeqCst);
            match reply {
                Reply::In(seen) => {
                    let expected = visits + u64::from(path == "/visit");
                    assert!(
                        seen == expected || !is_calm,
                        "{seen} visits instead of {expected}: {:#?}",
                        self.story
                    );
                    if self
                        .story
                        .last()
                        .is_some_and(|last| last.contains("\"refreshed\""))
                    {
                        self.was_unavailable = false;
                    }
                    visits = seen;
                    last = began;
                    assert!(
                        logged_in.elapsed() < limit + ahead + slack,
                        "still in past the limit"
                    );
                }
                Reply::Out => {
                    let at_limit = logged_in.elapsed() + ahead + slack > limit;
                    // Where the store is too slow to extend sessions, they end.
                    let was_long =
                        last.elapsed() > idle.saturating_sub(interval) || self.was_unavailable;
                    assert!(
                        at_limit || was_long || !is_calm,
                        "out {:?} after the last activity: {:#?}",
                        last.elapsed(),
                        self.story
                    );
                    self.weather
                        .limit_out
                        .fetch_add(usize::from(at_limit), Ordering::Relaxed);
                    return;
                }
                Reply::Failed => {}
            }
        }
        if self.rng.u8(..4) == 0 {
            let cookie = self.cookie.clone();
            if self.get("/log_out").await == Reply::In(0) {
                self.cookie = cookie;
                assert!(
                    !matches!(self.get("/page").await, Reply::In(_)),
                    "logged in again"
                );
            }
            return;
        }
        // Idle: the second process may have given it its own time.
        let silent = idle + ahead + slack;
        while last_tried.elapsed() < silent {
            if self.weather.is_over.load(Ordering::SeqCst) {
                return;
            }
            sleep(interval / 2).await;
        }
        let reply = self.get("/page").await;
        assert!(
            !matches!(reply, Reply::In(_)),
            "idle for {:?} and still in",
            last_tried.elapsed()
        );
        self.weather.idle_out.fetch_add(1, Ordering::Relaxed);
    }

    fn turn(&self) -> usize {
        self.weather.turns.load(Ordering::SeqCst)
    }
}

/// A store of the test's own, to be killed, and how many connections it has.
trait Store {
    const NAME: &str;
    fn server(&mut self) -> &mut OwnServer;
    fn url(&self) -> String;
    fn connections(&self) -> impl Future<Output = usize>;
}

struct OwnPostgres(OwnServer, PgPool);

impl Store for OwnPostgres {
    const NAME: &str = "postgres";

    fn server(&mut self) -> &mut OwnServer {
        &mut self.0
    }

    fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.0.port())
    }

    async fn connections(&self) -> usize {
        let count = "select count(*) from pg_stat_activity where backend_type = 'client backend'";
        let count: Result<i64, _> = sqlx::query_scalar(count).fetch_one(&self.1).await;
        count
            .ok()
            .and_then(|count| count.try_into().ok())
            .unwrap_or(0)
    }
}

struct OwnRedis(OwnServer);

impl Store for OwnRedis {
    const NAME: &str = "redis";

    fn server(&mut self) -> &mut OwnServer {
        &mut self.0
    }

    fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.0.port())
    }

    async fn connections(&self) -> usize {
        let port = self.0.port().to_string();
        let list = Command::new("redis-cli")
            .args(["-p", &port, "client", "list"])
            .output();
        list.map_or(0, |list| {
            list.stdout.split(|byte| *byte == b'\n').count() - 1
        })
    }
}

/// What tells another time to a process.
fn faketime() -> Option<PathBuf> {
    let folders = fs::read_dir("/usr/lib").ok()?.flatten();
    let mut libraries = folders.map(|folder| folder.path().join("faketime/libfaketime.so.1"));
    libraries.find(|library| library.exists())
}

/// The two processes, when they serve.
async fn serving(store: &str, url: &str) -> [Process; 2] {
    let faketime = faketime();
    if faketime.is_none() {
        eprintln!("faketime is not installed: no clock is ahead");
    }
    let ahead = [None, faketime.as_deref()];
    let mut processes = ahead.map(|ahead| Process::start(store, url, ahead));
    for process in &mut processes {
        let page = format!("http://{}/page", process.address);
        while reqwest::get(&page).await.is_err() {
            let ended = process.child.try_wait().expect("it can be asked");
            assert_eq!(ended, None, "it has ended instead of serving {page}");
            sleep(StdDuration::from_millis(50)).await;
        }
    }
    processes
}

/// Begins the lives of all users.
fn users_of(processes: &[Process; 2], weather: &Arc<Weather>) -> JoinSet<()> {
    let mut living = JoinSet::new();
    for seed in 0..setting("SOAK_USERS", 100) {
        let http = reqwest::Client::builder()
            .pool_max_idle_per_host(1)
            .timeout(PATIENCE)
            .build();
        let user = User {
            addresses: processes.each_ref().map(|process| process.address.clone()),
            http: http.expect("a plain client"),
            cookie: None,
            rng: Rng::with_seed(seed),
            weather: Arc::clone(weather),
            times: Times::of(length()),
            was_unavailable: false,
            story: Vec::new(),
        };
        living.spawn(user.live());
    }
    living
}

/// Kills something, and starts it again: each third time the store. Answers what.
async fn storm<S: Store>(
    number: usize,
    store: &mut S,
    processes: &mut [Process; 2],
    weather: &Weather,
) -> &'static str {
    weather.is_stormy.store(true, Ordering::SeqCst);
    weather.turns.fetch_add(1, Ordering::SeqCst);
    let killed = if number.is_multiple_of(3) {
        store.server().kill();
        store.server().restart();
        "store"
    } else {
        processes[number % 2].kill();
        processes[number % 2].restart();
        "process"
    };
    // Until connections are there again, and touches are no longer paused.
    sleep(StdDuration::from_secs(2)).await;
    weather.turns.fetch_add(1, Ordering::SeqCst);
    weather.is_stormy.store(false, Ordering::SeqCst);
    killed
}

async fn soak<S: Store>(mut store: S) {
    let length = length();
    let mut processes = serving(S::NAME, &store.url()).await;
    let weather = Arc::new(Weather::new());
    let mut living = users_of(&processes, &weather);
    let mut told = String::from(
        "seconds\tin\trequests\terrors\tunavailable\tconnections\tmemory_1\tmemory_2\tevent\n",
    );
    let began = Instant::now();
    let period = (length / 10).min(StdDuration::from_secs(60));
    let (mut next_storm, mut storms) = (period, 0);
    // Connections and memory in the first half and in the second.
    let mut peaks = [[0; 3]; 2];
    while began.elapsed() < length {
        let mut event = "";
        if began.elapsed() > next_storm && next_storm + period < length {
            next_storm += period;
            storms += 1;
            event = storm(storms, &mut store, &mut processes, &weather).await;
        }
        let [first, second] = processes.each_ref().map(Process::memory);
        let connections = store.connections().await;
        let half = usize::from(began.elapsed() > length / 2);
        for (peak, now) in peaks[half].iter_mut().zip([connections, first, second]) {
            *peak = (*peak).max(now);
        }
        let (seconds, figures) = (began.elapsed().as_secs(), weather.figures());
        let _ = writeln!(
            told,
            "{seconds}\t{figures}\t{connections}\t{first}\t{second}\t{event}"
        );
        while let Some(ended) = living.try_join_next() {
            ended.expect("nobody's session is wrong");
        }
        sleep((length / 300).max(StdDuration::from_millis(200))).await;
    }
    weather.is_over.store(true, Ordering::SeqCst);
    while let Some(ended) = living.join_next().await {
        ended.expect("nobody's session is wrong");
    }
    println!(
        "{}: {weather:?}, connections and memory at most {peaks:?}",
        S::NAME
    );
    if let Some(results) = env::var_os("SOAK_RESULTS") {
        let file = Path::new(&results).join(format!("soak-{}.tsv", S::NAME));
        fs::write(file, told).expect("the results can be written");
    }
    let Times { idle, ahead, .. } = Times::of(length);
    let has_been_idle = weather.idle_out.load(Ordering::Relaxed) > 0;
    assert!(
        has_been_idle || length < (idle + ahead) * 2,
        "nobody was idle for long enough"
    );
    let [first, second] = peaks;
    for (first, second) in first.iter().zip(second) {
        assert!(second <= first + first / 3, "it grows: {peaks:?}");
    }
}

#[test]
#[cfg_attr(without_soak, ignore = "SOAK_SECONDS is not set")]
#[cfg_attr(
    all(not(without_soak), without_own_postgres),
    ignore = "PostgreSQL is not installed"
)]
fn on_postgresql() {
    let server = OwnServer::postgres();
    RUNTIME.block_on(async {
        let url = format!("postgres://postgres@127.0.0.1:{}/postgres", server.port());
        let pool = PgPoolOptions::new().max_connections(1).connect(&url);
        let pool = pool.await.expect("PostgreSQL answers");
        PostgresStore::new(pool.clone())
            .migrate()
            .await
            .expect("a table can be created");
        soak(OwnPostgres(server, pool)).await;
    });
}

#[test]
#[cfg_attr(without_soak, ignore = "SOAK_SECONDS is not set")]
#[cfg_attr(
    all(not(without_soak), without_own_redis),
    ignore = "redis-server is not installed"
)]
fn on_redis() {
    RUNTIME.block_on(soak(OwnRedis(OwnServer::redis(&[]))));
}
