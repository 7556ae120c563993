//! Whoever sends bytes to the application sends the worst: over a socket, beside each other, in the middle of things.
//!
//! No panic, no session that nobody asked for, no 5xx where the fault is the client's, and no memory that grows.
//! `HOSTILE_REQUESTS` says how many requests; 5,000 if it does not.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration as StdDuration,
};

use axum::{
    Json, Router,
    routing::{get, post},
};
use fastrand::Rng;
use http::StatusCode;
use serde_json::{Map, Value, json};
use session_refresh::{RefreshInfo, session_refresh};
use session_refresh_tests::{
    CurrentUser, Owned, Plain, Sessions, Setup, Site,
    backends::{Backend, Sqlite},
};
use time::Duration;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
    time::timeout,
};
use tower_sessions::{Expiry, Session, session::Id};

use crate::machine::{RUNTIME, memory, setting};

/// How many attack at once.
const ATTACKERS: usize = 8;
/// How many sessions are live, and how many have ended.
const SESSIONS: usize = 20;
/// How long a broken request is waited for.
const PATIENCE: StdDuration = StdDuration::from_millis(50);
const IDLE: Duration = Duration::days(14);

#[session_refresh(interval = "24h")]
async fn look() {}

#[session_refresh(interval = "24h", skip_superuser, user = CurrentUser)]
async fn look_user_up() {}

#[session_refresh(interval = "24h")]
async fn read(session: Session) -> Result<Json<Option<Value>>, StatusCode> {
    let read = session.get_value("x").await;
    read.map(Json)
        .map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)
}

/// Keeps what its user sends, under the names that he sends.
#[session_refresh(interval = "24h")]
async fn keep(
    info: RefreshInfo,
    session: Session,
    Json(sent): Json<Map<String, Value>>,
) -> Result<String, StatusCode> {
    let failed = |_| StatusCode::INTERNAL_SERVER_ERROR;
    if session.get_value("role").await.map_err(failed)?.is_none() {
        return Err(StatusCode::UNAUTHORIZED);
    }
    for (key, value) in sent {
        session.insert_value(&key, value).await.map_err(failed)?;
    }
    Ok(info.outcome.to_string())
}

/// Who may attack with which session.
struct Target {
    address: String,
    live: Vec<Id>,
    ended: Vec<Id>,
    /// Whether the layer removes cookies that name no session.
    removes_cookies: bool,
}

/// A request, and what is known of its answer.
struct Attack {
    bytes: Vec<u8>,
    /// Whether it is HTTP: then it is answered, and the connection goes on.
    is_http: bool,
    /// Whether one of its cookies names a session that the store has.
    is_live: bool,
    path: &'static str,
}

impl Attack {
    /// A harmless one, after which the server closes.
    fn last() -> Self {
        let bytes = b"GET /look HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
        Self {
            bytes: bytes.to_vec(),
            is_http: true,
            is_live: false,
            path: "/look",
        }
    }
}

impl Target {
    /// A cookie's value, and whether it names a live session.
    fn id(&self, rng: &mut Rng) -> (Vec<u8>, bool) {
        let issued =
            |ids: &[Id], rng: &mut Rng| ids[rng.usize(..ids.len())].to_string().into_bytes();
        match rng.u8(..12) {
            0..4 => (issued(&self.live, rng), true),
            4 | 5 => (issued(&self.ended, rng), false),
            6 | 7 => (Id(rng.i128(..)).to_string().into_bytes(), false),
            8 => {
                // Nearly one of ours: the bits that base64 leaves over, another alphabet, a character more or less.
                let mut id = issued(&self.live, rng);
                let at = rng.usize(..id.len());
                match rng.u8(..4) {
                    0 => id[at] = rng.u8(0x21..0x7f),
                    1 => id.push(b'='),
                    2 => drop(id.pop()),
                    _ => id.extend_from_within(..at),
                }
                // Perhaps it is the same again, or another spelling of it.
                let is_live = std::str::from_utf8(&id)
                    .ok()
                    .and_then(|id| id.parse::<Id>().ok());
                (id, is_live.is_some_and(|id| self.live.contains(&id)))
            }
            9 => (Vec::new(), false),
            10 => (text(rng, 22), false),
            _ => (text(rng, 8000), false),
        }
    }

    fn attack(&self, rng: &mut Rng) -> Attack {
        let (method, path, body) = match rng.u8(..8) {
            0..3 => ("GET", "/look", None),
            3 => ("HEAD", "/look", None),
            4 => ("GET", "/look_user_up", None),
            5 => ("GET", "/read", None),
            6 => ("POST", "/keep", Some(body(rng))),
            _ => ("DELETE", "/nowhere", None),
        };
        let mut bytes = format!("{method} {path} HTTP/1.1\r\nhost: x\r\n").into_bytes();
        let mut names_live = false;
        for _ in 0..cookies(rng) {
            let (value, is_live) = self.id(rng);
            names_live |= is_live;
            bytes.extend_from_slice(b"cookie: ");
            if rng.u8(..8) == 0 {
                let name = text(rng, 30);
                bytes.extend(name.into_iter().filter(|byte| !b";=".contains(byte)));
                bytes.extend_from_slice(b"=x; ");
            }
            bytes.extend_from_slice(b"id=");
            bytes.extend_from_slice(&value);
            bytes.extend_from_slice(b"\r\n");
        }
        for _ in 0..rng.u8(..3) {
            let name = [
                "cache-control",
                "sec-purpose",
                "x-forwarded-for",
                "if-none-match",
                "origin",
            ];
            bytes.extend_from_slice(name[rng.usize(..name.len())].as_bytes());
            bytes.extend_from_slice(b": ");
            bytes.extend(text(rng, 200));
            bytes.extend_from_slice(b"\r\n");
        }
        if let Some(body) = &body {
            let length = body.len();
            bytes.extend(
                format!("content-type: application/json\r\ncontent-length: {length}\r\n").bytes(),
            );
        }
        bytes.extend_from_slice(b"\r\n");
        bytes.extend(body.unwrap_or_default());
        Attack {
            bytes,
            is_http: true,
            is_live: names_live,
            path,
        }
    }

    /// One that a server may refuse, or does not understand.
    fn broken(&self, rng: &mut Rng) -> Attack {
        let mut attack = self.attack(rng);
        attack.is_http = false;
        let bytes = &mut attack.bytes;
        match rng.u8(..6) {
            0 => bytes.truncate(rng.usize(..bytes.len())),
            1 => {
                for _ in 0..rng.usize(1..20) {
                    let at = rng.usize(..bytes.len());
                    bytes[at] = rng.u8(..);
                }
            }
            2 => {
                let flood = (0..rng.usize(90..2000)).map(|n| format!("x-{n}: {n}\r\n"));
                let flood: String = flood.collect();
                bytes.splice(24..24, flood.into_bytes());
            }
            3 => {
                let flood = format!(
                    "cookie: id={}\r\n",
                    "a".repeat(rng.usize(10_000..1_000_000))
                );
                bytes.splice(24..24, flood.into_bytes());
            }
            4 => {
                let length = bytes
                    .windows(16)
                    .position(|found| found == b"content-length: ");
                if let Some(at) = length {
                    bytes[at + 16] = b'9';
                }
            }
            _ => *bytes = (0..rng.usize(..4000)).map(|_| rng.u8(..)).collect(),
        }
        attack
    }
}

fn cookies(rng: &mut Rng) -> usize {
    match rng.u8(..10) {
        0 => 0,
        1 => rng.usize(2..20),
        2 => rng.usize(20..60),
        _ => 1,
    }
}

/// What a header's value may hold.
fn text(rng: &mut Rng, longest: usize) -> Vec<u8> {
    let length = rng.usize(..longest);
    let byte = |rng: &mut Rng| match rng.u8(..8) {
        0 => rng.u8(0x80..),
        1 => b" \t\";,=%\\"[rng.usize(..8)],
        _ => rng.u8(0x21..0x7f),
    };
    (0..length).map(|_| byte(rng)).collect()
}

/// JSON of every type, under every name: the reserved one as well.
fn body(rng: &mut Rng) -> Vec<u8> {
    let mut sent = Map::new();
    for _ in 0..rng.usize(..4) {
        let key = match rng.u8(..8) {
            0..3 => "session_refresh.lifetime".to_owned(),
            3 | 4 => "session_refresh".to_owned(),
            5 => String::new(),
            6 => "x".to_owned(),
            // Few, so that sessions stay small: their data is the application's.
            _ => format!("\0{}\u{feff}", rng.u8(..8)),
        };
        sent.insert(key, value(rng, 4));
    }
    let mut body = serde_json::to_vec(&sent).expect("JSON can be written");
    match rng.u8(..20) {
        0 => body.truncate(rng.usize(..body.len())),
        1 => body = format!("{}1{}", "[".repeat(2000), "]".repeat(2000)).into_bytes(),
        2 => body = br#"{"x": 1e999, "y": 123456789012345678901234567890}"#.to_vec(),
        3 => {
            let at = rng.usize(..body.len());
            body[at] = rng.u8(..);
        }
        _ => {}
    }
    body
}

fn value(rng: &mut Rng, depth: usize) -> Value {
    match rng.u8(..if depth == 0 { 8 } else { 10 }) {
        0 => Value::Null,
        1 => json!(rng.bool()),
        2 => json!(rng.i64(..)),
        3 => json!(rng.u64(..)),
        4 => json!(f64::from_bits(rng.u64(..))),
        5 => json!(String::from_utf8_lossy(&text(rng, 300))),
        6 => {
            // A lifetime, or nearly.
            let words = ["idle", "end", "from", "max", "browser", "later", ""];
            let word = |rng: &mut Rng| match rng.u8(..3) {
                0 => words[rng.usize(..words.len())].to_owned(),
                1 => format!("{}={}", words[rng.usize(..words.len())], rng.i64(..)),
                _ => format!("{}={}", words[rng.usize(..words.len())], i64::MAX),
            };
            let lifetime: Vec<_> = (0..rng.usize(1..4)).map(|_| word(rng)).collect();
            json!(lifetime.join(" "))
        }
        7 => json!(rng.i64(..).to_string()),
        8 => (0..rng.usize(..5)).map(|_| value(rng, depth - 1)).collect(),
        _ => {
            let entries = (0..rng.usize(..5)).map(|n| (n.to_string(), value(rng, depth - 1)));
            Value::Object(entries.collect())
        }
    }
}

/// What the attacks have come to.
#[derive(Debug, Default)]
struct Toll {
    requests: AtomicUsize,
    answers: AtomicUsize,
    aborted: AtomicUsize,
}

/// Sends a few requests in one go, and takes the answers, or does not.
async fn assault(target: &Target, toll: &Toll, rng: &mut Rng, is_damaged: bool) {
    let mut attacks: Vec<_> = (0..rng.usize(1..30)).map(|_| target.attack(rng)).collect();
    let is_broken = rng.u8(..3) == 0;
    attacks.push(if is_broken {
        target.broken(rng)
    } else {
        Attack::last()
    });
    toll.requests.fetch_add(attacks.len(), Ordering::Relaxed);
    let bytes: Vec<_> = attacks
        .iter()
        .flat_map(|attack| attack.bytes.clone())
        .collect();
    let mut stream = TcpStream::connect(&target.address)
        .await
        .expect("the server is there");
    let aborts = rng.u8(..8) == 0;
    let sent = if aborts {
        rng.usize(..bytes.len())
    } else {
        bytes.len()
    };
    // The server may close before it has read everything.
    let written = stream.write_all(&bytes[..sent]).await;
    if aborts {
        toll.aborted.fetch_add(1, Ordering::Relaxed);
        let mut some = vec![0; rng.usize(..2000)];
        let _ = timeout(
            StdDuration::from_millis(rng.u64(..3)),
            stream.read(&mut some),
        )
        .await;
        return;
    }
    drop(written);
    let mut answer = Vec::new();
    // A server that refuses may reset the connection, and one that has half a request waits for the rest.
    let patience = if is_broken { PATIENCE } else { PATIENCE * 1000 };
    let reads = timeout(patience, stream.read_to_end(&mut answer)).await;
    assert!(is_broken || reads.is_ok(), "the server waits for more");
    let mut rest = &answer[..];
    for attack in attacks {
        let Some((status, has_cookie)) = next_answer(&mut rest, attack.bytes.starts_with(b"HEAD"))
        else {
            // What has been answered before a reset may be lost with it.
            assert!(
                is_broken,
                "no answer to {}",
                String::from_utf8_lossy(&attack.bytes)
            );
            break;
        };
        toll.answers.fetch_add(1, Ordering::Relaxed);
        let words = || String::from_utf8_lossy(&attack.bytes).into_owned();
        let may_fail = is_damaged && attack.is_live && ["/read", "/keep"].contains(&attack.path);
        assert!(status < 500 || may_fail, "{status} to {}", words());
        if attack.is_http && attack.path.starts_with("/look") {
            assert_eq!(status, 200, "{}", words());
            assert!(
                !has_cookie || attack.is_live || target.removes_cookies,
                "a cookie answers {}",
                words()
            );
        }
    }
}

/// The status of the next answer, and whether it sets a cookie.
fn next_answer(rest: &mut &[u8], is_head: bool) -> Option<(u16, bool)> {
    let end = rest.windows(4).position(|found| found == b"\r\n\r\n")? + 4;
    let head = String::from_utf8_lossy(&rest[..end]).to_lowercase();
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let length = head
        .split_once("content-length: ")
        .and_then(|(_, rest)| rest.split('\r').next());
    let length: usize = if is_head {
        0
    } else {
        length.map_or(0, |length| length.parse().expect("a number"))
    };
    *rest = rest.get(end + length..)?;
    Some((status, head.contains("set-cookie: ")))
}

static PANICS: AtomicUsize = AtomicUsize::new(0);

fn count_panics() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            PANICS.fetch_add(1, Ordering::SeqCst);
            before(panic);
        }));
    });
}

async fn attacked<K>(sessions: K, damage: impl AsyncFn(Id, &[u8]))
where
    K: Sessions + Send + Sync,
{
    count_panics();
    let requests: usize = setting("HOSTILE_REQUESTS", 5_000);
    let routes = Router::new()
        .route("/look", get(look))
        .route("/look_user_up", get(look_user_up))
        .route("/read", get(read))
        .route("/keep", post(keep));
    let site = Setup::new(routes)
        .on(sessions)
        .expiry(Expiry::OnInactivity(IDLE))
        .start()
        .await;
    let (mut live, mut ended) = (Vec::new(), Vec::new());
    for _ in 0..SESSIONS {
        live.push(
            site.login("user")
                .await
                .session_id()
                .expect("they logged in"),
        );
        let client = site.login("user").await;
        ended.push(client.session_id().expect("they logged in"));
        client.post("/logout").await;
    }
    let _ = site.counts();
    let address = site
        .visitor()
        .origin()
        .trim_start_matches("http://")
        .to_owned();
    let target = Arc::new(Target {
        address,
        live,
        ended,
        removes_cookies: !K::TOUCH,
    });
    let toll = assaults(&target, requests, false).await;
    println!("{toll:?}");
    assert_eq!(site.counts().creates, 0, "nobody has asked for a session");
    for id in &target.live {
        let record = site.record(*id).await.expect("nobody has logged out");
        assert!(
            record.data.contains_key("role"),
            "what others have sent took nothing away"
        );
        assert!(
            record.expiry_date <= site.clock.now() + IDLE,
            "nobody has extended it by what he sent"
        );
    }
    for id in &target.ended {
        assert!(
            site.record(*id).await.is_none(),
            "nobody has brought it back"
        );
    }
    let rng = &mut Rng::with_seed(7);
    for (id, kind) in target.live.iter().zip(0..) {
        damage(*id, &damaged(rng, kind)).await;
    }
    let toll = assaults(&target, requests / 4, true).await;
    println!("with damaged rows: {toll:?}");
    assert_eq!(site.counts().creates, 0, "nobody has asked for a session");
    assert_eq!(PANICS.load(Ordering::SeqCst), 0, "something has panicked");
    check_alive(&site).await;
}

/// The application still serves who behaves.
async fn check_alive<K: Sessions>(site: &Site<K>) {
    let client = site.login("user").await;
    client.get("/look").await;
    assert_eq!(client.get("/look").await.outcome(), "not_due");
}

/// Bytes that are no record.
fn damaged(rng: &mut Rng, kind: usize) -> Vec<u8> {
    match kind % 6 {
        0 => Vec::new(),
        1 => (0..rng.usize(1..500)).map(|_| rng.u8(..)).collect(),
        // Arrays in arrays, maps in maps.
        2 => [vec![0x91; 100_000], vec![0xc0]].concat(),
        3 => [&[0x93][..], &[0x81, 0xa1, b'a'].repeat(50_000), &[0xc0]].concat(),
        // Of more entries, or a longer text, than there are.
        4 => vec![
            0x93, 0xdc, 0x00, 0x10, 0xdf, 0xff, 0xff, 0xff, 0xff, 0xdb, 0xff, 0xff, 0xff, 0xff,
        ],
        _ => vec![
            0x93, 0xd3, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x80, 0xc0,
        ],
    }
}

async fn assaults(target: &Arc<Target>, requests: usize, is_damaged: bool) -> Arc<Toll> {
    let toll = Arc::new(Toll::default());
    let mut attackers = JoinSet::new();
    let half = Arc::new(AtomicUsize::new(0));
    for attacker in 0..ATTACKERS {
        let (target, toll, half) = (Arc::clone(target), Arc::clone(&toll), Arc::clone(&half));
        attackers.spawn(async move {
            let rng = &mut Rng::with_seed(attacker as u64);
            loop {
                let so_far = toll.requests.load(Ordering::Relaxed);
                if so_far >= requests {
                    return;
                }
                if so_far > requests / 2 && half.load(Ordering::Relaxed) == 0 {
                    half.store(memory(std::process::id()), Ordering::Relaxed);
                }
                assault(&target, &toll, rng, is_damaged).await;
            }
        });
    }
    attackers.join_all().await;
    let half = half.load(Ordering::Relaxed);
    let after = memory(std::process::id());
    println!("kilobytes of memory at half of {requests} requests: {half}, after them: {after}");
    // Fewer requests tell nothing. Sessions, the database's pages and the attackers themselves are in it as well.
    assert!(
        requests < 200_000 || after < half + half / 4,
        "memory grows from {half} to {after}"
    );
    toll
}

#[test]
fn a_lifetime_layer_is_attacked() {
    RUNTIME.block_on(async {
        let sqlite = Sqlite::connect().await;
        let store = Owned(sqlite.touching());
        attacked(store, async |id, bytes| {
            assert!(sqlite.overwrite(id, bytes).await);
        })
        .await;
    });
}

#[test]
fn a_plain_layer_is_attacked() {
    RUNTIME.block_on(async {
        let sqlite = Sqlite::connect().await;
        let store = Plain(sqlite.plain());
        attacked(store, async |id, bytes| {
            assert!(sqlite.overwrite(id, bytes).await);
        })
        .await;
    });
}
