//! What a million sessions and their users, who come by a day's pattern, make a store write: `results/day.tsv`.
//!
//! The busiest hour is measured, minute by minute on an accelerated clock, request by request; the day is computed from
//! the same visits. Redis counts changes of keys (a touch is two: of the record's end, and of the key's expiry), and the
//! bytes that it is sent, reads included; for PostgreSQL it is rows, and bytes of its log.

use std::{collections::HashMap, fmt::Write as _, fs};

use axum::{
    body::Body,
    http::{Request, header},
};
use http_body_util::BodyExt as _;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use session_refresh_cost::{COOKIE, INTERVAL, LIFETIME, record};
use session_refresh_load::{
    ACCELERATED, PEERS_OF_A_DAY,
    fill::{fill, postgres, remove},
    measure::{Reading, Server},
    results,
};
use time::{Duration, OffsetDateTime};
use tokio::task::JoinSet;

const SESSIONS: usize = 1_000_000;
const BYTES: usize = 1_000;
/// How many of a thousand come on a day, and how many pages each of them then sees, one every so often.
const COMING: usize = 300;
const PAGES: i64 = 12;
const PAUSE: i64 = 50;
/// How a day's visits are spread over its hours, of a thousand: few at night, most in the evening.
const PATTERN: [usize; 24] = [
    14, 9, 6, 5, 6, 10, 20, 35, 48, 54, 55, 54, 56, 55, 52, 50, 50, 52, 58, 66, 76, 80, 59, 30,
];
const BUSIEST: i64 = 21;
const CONNECTIONS: usize = 32;

const MINUTE: i64 = 60;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

#[tokio::main]
async fn main() {
    let folder = tempfile::tempdir().expect("there is room for temporary files");
    let population = Population::new();
    let hour = population.requests(BUSIEST * HOUR..(BUSIEST + 1) * HOUR);
    let day = population.requests(0..DAY);
    let due = |requests: &[Visit]| requests.iter().filter(|visit| visit.due).count();
    println!(
        "the busiest hour: {} requests of {} users, {} due; the day: {} requests, {} due",
        hour.len(),
        users(&hour),
        due(&hour),
        day.len(),
        due(&day),
    );
    let mut lines = String::from(
        "store\tway\trequests\twrites\twrites_per_second\tbytes_per_second\twrites_a_day\tbytes_a_day\n",
    );
    for store in ["redis", "postgres"] {
        let mut ways = vec!["floor", ACCELERATED, "always-save"];
        if store == "redis" {
            ways.extend(PEERS_OF_A_DAY);
        }
        for way in ways {
            let server = Server::start(way, store, 4400, folder.path());
            let peer = PEERS_OF_A_DAY.contains(&way);
            let ids = population.fill(store).await;
            if store == "postgres" {
                quiet().await;
            }
            let cookies: HashMap<usize, String> = if peer {
                // Their sessions have a form of their own; the others are there, too.
                let begin = |visit: &Visit| (visit.user, server.cookie(&format!("/start/{BYTES}")));
                let mut visits = hour.clone();
                visits.sort_by_key(|visit| visit.user);
                visits.dedup_by_key(|visit| visit.user);
                visits.iter().map(begin).collect()
            } else {
                let cookie = |visit: &Visit| (visit.user, format!("{COOKIE}={}", ids[visit.user]));
                hour.iter().map(cookie).collect()
            };
            let before = Reading::of(store, &server);
            let cookies_sent = pass(&server, way == ACCELERATED, &hour, &cookies).await;
            let after = Reading::of(store, &server);
            // tower-sessions sends the cookie with a write, and only then.
            let since = |(after, before): (u64, u64)| {
                let changes = after.checked_sub(before);
                changes.expect("Redis has not saved to a disk meanwhile")
            };
            let writes = after.writes.zip(before.writes);
            let writes = writes.map_or(cookies_sent, since) as f64;
            let bytes = (after.bytes - before.bytes) as f64;
            let requests = hour.len() as f64;
            // How much more a day is than the hour: in requests, or for us in refreshes.
            let (mut more_writes, mut more_bytes) =
                (day.len() as f64 / requests, day.len() as f64 / requests);
            if way == ACCELERATED {
                let expected = due(&hour) as f64;
                assert!(
                    (cookies_sent as f64 - expected).abs() < 0.02 * expected,
                    "{cookies_sent} refreshes, but {expected} are due"
                );
                more_writes = due(&day) as f64 / expected;
                if store == "postgres" {
                    more_bytes = more_writes; // Its log knows of no reads.
                }
            }
            let line = format!(
                "{store}\t{}\t{requests}\t{writes}\t{:.1}\t{:.0}\t{:.0}\t{:.0}",
                way.trim_end_matches("-accelerated"),
                writes / HOUR as f64,
                bytes / HOUR as f64,
                writes * more_writes,
                bytes * more_bytes,
            );
            println!("{line}");
            let _ = writeln!(lines, "{line}");
            drop(server);
            remove(store, &ids).await;
        }
    }
    fs::write(results("day.tsv"), lines).expect("the results can be written");
}

/// Keeps PostgreSQL from cleaning up, and writing of it, while it is measured.
async fn quiet() {
    let pool = postgres().await;
    for statement in [
        "alter table tower_sessions.session set (autovacuum_enabled = off)",
        "vacuum tower_sessions.session",
        "checkpoint",
    ] {
        sqlx::query(statement)
            .execute(&pool)
            .await
            .expect("PostgreSQL does it");
    }
}

/// A request, its second of the day, and whether a refresh is due then.
#[derive(Clone, Copy)]
struct Visit {
    second: i64,
    user: usize,
    due: bool,
}

fn users(visits: &[Visit]) -> usize {
    let mut users: Vec<_> = visits.iter().map(|visit| visit.user).collect();
    users.sort_unstable();
    users.dedup();
    users.len()
}

/// The owners of the sessions.
struct Population(Vec<User>);

struct User {
    /// The second of the day in which the session was last refreshed: before it begins.
    refreshed: i64,
    /// When the user comes, if at all.
    comes: Option<i64>,
}

impl Population {
    /// The same each time. What happened before the day is played through, so that it begins as any other.
    fn new() -> Self {
        fastrand::seed(7);
        let comes = || (fastrand::usize(..1000) < COMING).then(time_of_day);
        let users = (0..SESSIONS).map(|_| {
            let days = LIFETIME.whole_days();
            let mut refreshed = -fastrand::i64(1..days) * DAY;
            for day in -days..0 {
                if let Some(second) = comes().map(|second| day * DAY + second) {
                    refreshed = last_refresh(refreshed, second);
                }
            }
            let refreshed = refreshed.min(-1);
            User {
                refreshed,
                comes: comes(),
            }
        });
        Self(users.collect())
    }

    /// All requests in these seconds, in their order.
    fn requests(&self, seconds: std::ops::Range<i64>) -> Vec<Visit> {
        let mut visits: Vec<_> = self
            .0
            .iter()
            .enumerate()
            .filter_map(|(number, user)| Some((number, user, user.comes?)))
            .flat_map(|(number, user, comes)| {
                let refresh = first_due(user.refreshed, comes);
                (0..PAGES).map(move |page| Visit {
                    second: comes + page * PAUSE,
                    user: number,
                    due: refresh == Some(page),
                })
            })
            .filter(|visit| seconds.contains(&visit.second))
            .collect();
        visits.sort_by_key(|visit| visit.second);
        visits
    }

    /// Every session as it is when the busiest hour begins: now. Answers their ids.
    async fn fill(&self, store: &str) -> Vec<String> {
        let begin = BUSIEST * HOUR;
        let now = OffsetDateTime::now_utc();
        let mut ids = Vec::with_capacity(SESSIONS);
        let records = self.0.iter().map(|user| {
            let refreshed = match user.comes {
                // Of a visit that has begun, only what is before the hour.
                Some(comes) => match first_due(user.refreshed, comes) {
                    Some(page) if comes + page * PAUSE < begin => comes + page * PAUSE,
                    _ => user.refreshed,
                },
                None => user.refreshed,
            };
            let record = record(BYTES, now + Duration::seconds(refreshed - begin) + LIFETIME);
            ids.push(record.id.to_string());
            record
        });
        fill(store, records).await;
        ids
    }
}

fn time_of_day() -> i64 {
    let mut place = fastrand::usize(..PATTERN.iter().sum::<usize>());
    let hour = PATTERN.iter().position(|share| {
        let found = place < *share;
        place = place.saturating_sub(*share);
        found
    });
    i64::try_from(hour.expect("it is one of the hours")).expect("there are 24") * HOUR
        + fastrand::i64(0..HOUR)
}

/// Which page of a visit that begins then refreshes a session, if any.
fn first_due(refreshed: i64, comes: i64) -> Option<i64> {
    (0..PAGES).find(|page| comes + page * PAUSE - refreshed >= INTERVAL.whole_seconds())
}

/// When a session was last refreshed, after a visit that began then.
fn last_refresh(refreshed: i64, comes: i64) -> i64 {
    first_due(refreshed, comes).map_or(refreshed, |page| comes + page * PAUSE)
}

type Http = Client<HttpConnector, Body>;

/// Lets an hour pass, a minute at a time. Answers how many answers bore a cookie.
async fn pass(
    server: &Server,
    accelerated: bool,
    hour: &[Visit],
    cookies: &HashMap<usize, String>,
) -> u64 {
    let http: Http = Client::builder(TokioExecutor::new()).build_http();
    let begin = BUSIEST * HOUR;
    let mut sent = 0;
    for minute in hour.chunk_by(|one, next| one.second / MINUTE == next.second / MINUTE) {
        if accelerated {
            // The clock stands for the minute: what is due in its last second is.
            let ahead = (minute[0].second - begin) / MINUTE * MINUTE + MINUTE;
            ask(&http, format!("{}ahead/{ahead}", server.url()), "").await;
        }
        let mut clients = JoinSet::new();
        for turn in 0..CONNECTIONS {
            // A user's requests of one minute keep their order: they go to one client.
            let requests = minute
                .iter()
                .filter(|visit| visit.user % CONNECTIONS == turn);
            let requests: Vec<_> = requests.map(|visit| cookies[&visit.user].clone()).collect();
            let (http, url) = (http.clone(), server.url());
            clients.spawn(async move {
                let mut sent = 0;
                for cookie in requests {
                    sent += u64::from(ask(&http, url.clone(), &cookie).await);
                }
                sent
            });
        }
        sent += clients.join_all().await.into_iter().sum::<u64>();
    }
    sent
}

/// Whether the answer bears a cookie.
async fn ask(http: &Http, url: String, cookie: &str) -> bool {
    let ask = async || {
        let request = Request::get(&url)
            .header(header::COOKIE, cookie)
            .body(Body::empty())
            .expect("this is a request");
        http.request(request).await
    };
    let answer = match ask().await {
        // One of the peers closes a connection now and then just as it is used.
        Err(_) => ask().await,
        answer => answer,
    };
    let answer = answer.expect("the server answers");
    assert!(answer.status().is_success(), "{}", answer.status());
    let cookie = answer.headers().contains_key(header::SET_COOKIE);
    answer.collect().await.expect("it answers to the end");
    cookie
}
