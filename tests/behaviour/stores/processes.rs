//! Several processes on one store. Each is this test binary, started again for the test `child` alone.

use std::{
    env,
    process::{Command, Stdio},
    str::FromStr as _,
};

use axum::{Router, routing::get};
use session_refresh::{LifetimeLayer, session_refresh};
use session_refresh_tests::{
    Server,
    backends::{Backend, MySql, Postgres, Redis},
};
use time::{Duration, OffsetDateTime};
use tower_sessions::{
    Expiry, SessionManagerLayer, SessionStore as _,
    session::{Id, Record},
};

const PROCESSES: usize = 4;
const REQUESTS: usize = 25;

#[session_refresh(interval = "24h")]
async fn page() {}

/// What a child prints for each request.
const ANSWER: &str = "answer: ";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "started by the tests below"]
async fn child() {
    match env::var("CHILD_OF").unwrap_or_default().as_str() {
        "postgres" => requests(Postgres::connect().await).await,
        "mysql" => requests(MySql::connect().await).await,
        "redis" => requests(Redis::connect().await).await,
        _ => panic!("a test starts it"),
    }
}

/// An application of its own, and concurrent requests to it with the session of `SESSION`.
async fn requests<B: Backend>(backend: B) {
    let sessions = LifetimeLayer::new(backend.touching(), |store| {
        SessionManagerLayer::new(store)
            .with_secure(false)
            .with_expiry(Expiry::OnInactivity(Duration::days(14)))
    });
    let app = Router::new().route("/page", get(page)).layer(sessions);
    let server = Server::start(app).await;
    let cookie = format!("id={}", env::var("SESSION").unwrap());
    // Everything is warm before the starting line.
    server.client().get("/page").await;
    println!("ready");
    std::io::stdin().read_line(&mut String::new()).unwrap();
    let answers: Vec<_> = (0..REQUESTS)
        .map(|_| {
            let (client, cookie) = (server.client(), cookie.clone());
            tokio::spawn(async move { client.get_with("/page", "cookie", &cookie).await })
        })
        .collect();
    for answer in answers {
        let answer = answer.await.unwrap();
        println!(
            "{ANSWER}{} {} {}",
            answer.status.as_u16(),
            answer.outcome(),
            !answer.set_cookie().is_empty()
        );
    }
}

/// A session that was last extended a day ago.
async fn due_session<B: Backend>(backend: &B) -> Id {
    let expiry_date = OffsetDateTime::now_utc() + Duration::days(13);
    let data = [("role".to_owned(), "user".into())].into();
    let mut record = Record {
        id: Id::default(),
        data,
        expiry_date,
    };
    backend.touching().create(&mut record).await.unwrap();
    record.id
}

/// All processes at once; answers how many requests said so.
fn race(name: &str, session: Id) -> (usize, usize) {
    let mut children: Vec<_> = (0..PROCESSES)
        .map(|_| {
            Command::new(env::current_exe().unwrap())
                .args([
                    "--exact",
                    "stores::processes::child",
                    "--ignored",
                    "--nocapture",
                ])
                .envs([("CHILD_OF", name), ("SESSION", &session.to_string())])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap()
        })
        .collect();
    let mut outputs: Vec<_> = children
        .iter_mut()
        .map(|child| std::io::BufReader::new(child.stdout.take().unwrap()))
        .collect();
    for output in &mut outputs {
        use std::io::BufRead as _;
        let ready = output
            .lines()
            .map_while(Result::ok)
            .any(|line| line.contains("ready"));
        assert!(ready, "a child ended before it was ready");
    }
    for child in &mut children {
        use std::io::Write as _;
        child.stdin.take().unwrap().write_all(b"go\n").unwrap();
    }
    let mut counts = (0, 0);
    let mut answers = 0;
    for output in outputs {
        use std::io::BufRead as _;
        for line in output.lines().map_while(Result::ok) {
            if let Some((_, answer)) = line.split_once(ANSWER) {
                answers += 1;
                let words: Vec<_> = answer.split(' ').collect();
                assert_eq!(words[0], "200");
                counts.0 += usize::from(words[1] == "refreshed");
                counts.1 += usize::from(bool::from_str(words[2]).unwrap());
            }
        }
    }
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    assert_eq!(answers, PROCESSES * REQUESTS);
    counts
}

#[tokio::test]
#[cfg_attr(without_postgres, ignore = "POSTGRES_URL is not set")]
async fn of_a_hundred_requests_in_four_processes_one_changes_the_row_postgres() {
    let backend = Postgres::connect().await;
    // Counted by the database itself.
    for statement in [
        "create table if not exists touches (id text not null)",
        "create or replace function count_touch() returns trigger language plpgsql as \
         $$ begin insert into touches values (new.id); return new; end $$",
        "create or replace trigger count_touch after update on tower_sessions.session \
         for each row execute function count_touch()",
    ] {
        sqlx::query(statement).execute(&backend.pool).await.unwrap();
    }
    let session = due_session(&backend).await;
    assert_eq!(race("postgres", session), (1, 1));
    let (updates,): (i64,) = sqlx::query_as("select count(*) from touches where id = $1")
        .bind(session.to_string())
        .fetch_one(&backend.pool)
        .await
        .unwrap();
    assert_eq!(updates, 1);
}

#[tokio::test]
#[cfg_attr(without_mysql, ignore = "MYSQL_URL is not set")]
async fn of_a_hundred_requests_in_four_processes_one_changes_the_row_mysql() {
    let backend = MySql::connect().await;
    for statement in [
        "create table if not exists tower_sessions.touches (id char(22) not null)",
        "drop trigger if exists tower_sessions.count_touch",
        "create trigger tower_sessions.count_touch after update on tower_sessions.session \
         for each row insert into tower_sessions.touches values (new.id)",
    ] {
        sqlx::raw_sql(statement)
            .execute(&backend.pool)
            .await
            .unwrap();
    }
    let session = due_session(&backend).await;
    assert_eq!(race("mysql", session), (1, 1));
    let (updates,): (i64,) =
        sqlx::query_as("select count(*) from tower_sessions.touches where id = ?")
            .bind(session.to_string())
            .fetch_one(&backend.pool)
            .await
            .unwrap();
    assert_eq!(updates, 1);
}

#[tokio::test]
#[cfg_attr(without_redis, ignore = "REDIS_URL is not set")]
async fn of_a_hundred_requests_in_four_processes_one_changes_the_row_redis() {
    use std::{
        io::{BufRead as _, BufReader, Write as _},
        net::TcpStream,
    };

    let backend = Redis::connect().await;
    let session = due_session(&backend).await;
    // Counted by the server's keyspace events.
    let url = env::var("REDIS_URL").unwrap();
    let mut watcher =
        TcpStream::connect(url.trim_start_matches("redis://").trim_end_matches('/')).unwrap();
    watcher
        .set_read_timeout(Some(std::time::Duration::from_secs(20)))
        .unwrap();
    write!(
        watcher,
        "CONFIG SET notify-keyspace-events KA\r\nSUBSCRIBE __keyspace@0__:{session}\r\n"
    )
    .unwrap();
    let mut events = BufReader::new(watcher).lines().map(Result::unwrap);
    assert!(events.any(|line| line == ":1"), "subscribed to one channel");
    assert_eq!(race("redis", session), (1, 1));
    // The last event of this key, so that none before it is missed.
    backend.plain().delete(&session).await.unwrap();
    let mut changes = Vec::new();
    while changes.last().is_none_or(|change| change != "del") {
        changes.extend(events.next().filter(|line| {
            ["set", "setrange", "expire", "persist", "del"].contains(&line.as_str())
        }));
    }
    assert_eq!(changes, ["expire", "setrange", "del"]);
}
