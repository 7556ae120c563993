//! Whatever fails, no event holds a session's id, which is as good as a password, or what is in the session.

use axum::{
    Router,
    routing::{get, post},
};
use fred::{
    prelude::{ClientLike as _, Pool},
    types::CustomCommand,
};
use http::StatusCode;
use session_refresh::{
    session_refresh,
    store::{MySqlStore, PostgresStore, RedisStore, Serialized, SqliteStore, Touch},
};
use session_refresh_tests::{
    Event, Events, FailingStore, FoundAtGate, OwnServer, Owned, Plain, Sessions, Setup,
    backends::{Backend, MySql, Postgres, Redis, RedisRs, Sqlite},
};
use sqlx::sqlite::SqlitePoolOptions;
use time::Duration;
use tower_sessions::{MemoryStore, Session, SessionStore, session::Id};

use super::sql::{mysql, postgres};

const SECRET: &str = "what only this user may know";

#[session_refresh(interval = "24h")]
async fn page() {}

async fn read(session: Session) -> Result<String, StatusCode> {
    let secret = session.get("secret").await;
    secret
        .map(Option::unwrap_or_default)
        .map_err(|_| StatusCode::SERVICE_UNAVAILABLE)
}

async fn write(session: Session) -> Result<(), StatusCode> {
    let written = session.insert("secret", SECRET).await;
    if written.is_ok() {
        // Another value each time.
        let _written = session.insert("at", Id::default().0.to_string()).await;
    }
    written.map_err(|_| StatusCode::SERVICE_UNAVAILABLE)
}

async fn renew(session: Session) -> Result<(), StatusCode> {
    let renewed = session.cycle_id().await;
    renewed.map_err(|_| StatusCode::SERVICE_UNAVAILABLE)
}

async fn leave(session: Session) -> Result<(), StatusCode> {
    let left = session.flush().await;
    left.map_err(|_| StatusCode::SERVICE_UNAVAILABLE)
}

/// Its record is damaged between its load and its touch.
#[session_refresh(interval = "24h", user = FoundAtGate)]
async fn damaged_meanwhile() {}

fn routes() -> Router {
    Router::new()
        .route("/damaged_meanwhile", get(damaged_meanwhile))
        .route("/page", get(page))
        .route("/read", get(read))
        .route("/write", post(write))
        .route("/renew", post(renew))
        .route("/leave", post(leave))
}

/// A session is made at `healthy` and then damaged, and comes to `faulty`.
async fn stays_silent_on<K: Sessions>(
    fault: &str,
    healthy: K,
    faulty: K,
    damage: impl AsyncFn(Id),
) {
    let before = Setup::new(routes()).on(healthy).start().await;
    let client = before.login("user").await;
    client.post("/write").await;
    before.clock.advance(Duration::DAY);
    let id = client.session_id().unwrap();
    damage(id).await;
    let events = Events::record();
    let site = Setup::new(routes())
        .on(faulty)
        .clock(&before.clock)
        .start()
        .await;
    let cookie = format!("id={id}");
    for path in ["/page", "/read"] {
        site.visitor().get_with(path, "cookie", &cookie).await;
    }
    for path in ["/write", "/renew", "/leave"] {
        site.visitor().post_with(path, "cookie", &cookie).await;
    }
    let events = events.all();
    let failures = events
        .iter()
        .filter(|event| event.level == tracing::Level::ERROR);
    assert!(
        failures.count() > 0,
        "{fault}: nothing has failed: {events:?}"
    );
    let number = format!("{:?}", id.0);
    for event in events {
        let text = &event.text;
        assert!(!text.contains(&id.to_string()), "{fault}: {event:?}");
        assert!(!text.contains(&number), "{fault}: {event:?}");
        assert!(!text.contains(SECRET), "{fault}: {event:?}");
    }
}

/// With either layer.
async fn stays_silent<S: SessionStore + Touch + Clone>(
    fault: &str,
    healthy: &S,
    faulty: &S,
    damage: impl AsyncFn(Id),
) {
    let (here, there) = (Owned(healthy.clone()), Owned(faulty.clone()));
    stays_silent_on(fault, here, there, &damage).await;
    let (here, there) = (Plain(healthy.clone()), Plain(faulty.clone()));
    stays_silent_on(fault, here, there, &damage).await;
}

async fn unharmed(_: Id) {}

/// Bytes that are no record, and which a decoder quotes when it says so.
fn no_records() -> [(&'static str, Vec<u8>); 4] {
    let text = rmp_serde::to_vec(SECRET).unwrap();
    let text_for_data = rmp_serde::to_vec(&(1, SECRET, 1)).unwrap();
    let text_for_id = rmp_serde::to_vec(&(SECRET, 1, 1)).unwrap();
    [
        ("a text", text),
        ("a text for the data", text_for_data),
        ("a text for the id", text_for_id),
        ("no MessagePack", SECRET.as_bytes().to_vec()),
    ]
}

/// What goes wrong with any of them: records, the table, the right to write.
async fn of_a_database<B: Backend>(backend: &B, missing: B::Touching, read_only: B::Touching) {
    let store = backend.touching();
    for (what, bytes) in no_records() {
        let damage = async |id| assert!(backend.overwrite(id, &bytes).await);
        stays_silent(what, &store, &store, damage).await;
    }
    stays_silent("no table", &store, &missing, unharmed).await;
    stays_silent("read only", &store, &read_only, unharmed).await;
}

#[tokio::test]
async fn on_sqlite() {
    let backend = Sqlite::connect().await;
    for (what, bytes) in no_records() {
        // Upstream's store repeats what the decoder says.
        let damage = async |id| assert!(backend.overwrite(id, &bytes).await);
        let theirs = Owned(Serialized::new(backend.plain()));
        stays_silent_on(what, theirs.clone(), theirs, &damage).await;
    }
    let missing = backend.touching().with_table_name("missing").unwrap();
    let options = SqlitePoolOptions::new().after_connect(|connection, _| {
        Box::pin(async move {
            sqlx::query("pragma query_only = on")
                .execute(connection)
                .await?;
            Ok(())
        })
    });
    let read_only = options.connect_with((*backend.pool.connect_options()).clone());
    of_a_database(
        &backend,
        missing,
        SqliteStore::new(read_only.await.unwrap()),
    )
    .await;
}

/// Upstream's store in ours, which touches by a load and a save.
#[tokio::test]
async fn of_a_touch_that_can_not_read_the_record() {
    let backend = Sqlite::connect().await;
    for (what, bytes) in no_records() {
        let store = Serialized::new(backend.plain());
        let site = Setup::new(routes()).on(Owned(store)).start().await;
        let client = site.due().await;
        let id = client.session_id().unwrap();
        let events = Events::record();
        let damage = async { assert!(backend.overwrite(id, &bytes).await) };
        let answer = site.during(&client, "/damaged_meanwhile", damage).await;
        assert_eq!(answer.outcome(), "unavailable", "{what}");
        let events = events.all();
        let is_failure = |event: &Event| event.text.contains("could not touch the session");
        assert!(events.iter().any(is_failure), "{what}");
        for event in events {
            assert!(!event.text.contains(SECRET), "{what}: {event:?}");
        }
    }
}

#[tokio::test]
#[cfg_attr(without_postgres, ignore = "POSTGRES_URL is not set")]
async fn on_postgres() {
    let backend = Postgres::connect().await;
    let missing = (backend.touching())
        .with_table_name("missing", "missing")
        .unwrap();
    let read_only = postgres("set default_transaction_read_only = on").await;
    of_a_database(&backend, missing, PostgresStore::new(read_only)).await;
    // A trigger that says what a touch or save is about.
    let talkative = backend
        .touching()
        .with_table_name("talkative", "session")
        .unwrap();
    talkative.migrate().await.unwrap();
    let says_all = "create or replace function talkative.says_all() returns trigger language plpgsql as \
        $$ begin raise exception 'no %', old.id; end $$; \
        create or replace trigger says_all before update or delete on talkative.session for each row execute function \
        talkative.says_all()";
    let silent = "drop trigger if exists says_all on talkative.session";
    let pool = &backend.pool;
    sqlx::raw_sql(silent).execute(pool).await.unwrap();
    let damage = async |_| {
        sqlx::raw_sql(says_all).execute(pool).await.unwrap();
    };
    let (here, there) = (Owned(talkative.clone()), Owned(talkative));
    stays_silent_on("a trigger", here, there, damage).await;
    sqlx::raw_sql(silent).execute(pool).await.unwrap();
}

#[tokio::test]
#[cfg_attr(without_mysql, ignore = "MYSQL_URL is not set")]
async fn on_mysql() {
    let backend = MySql::connect().await;
    let missing = (backend.touching())
        .with_table_name("missing", "missing")
        .unwrap();
    let read_only = mysql("set session transaction read only").await;
    of_a_database(&backend, missing, MySqlStore::new(read_only)).await;
}

#[tokio::test]
#[cfg_attr(without_own_redis, ignore = "redis-server is not installed")]
async fn on_redis() {
    let options = ["--user", "other", "on", ">pw", "~other:*", "+@all"];
    let server = OwnServer::redis(&options);
    let at = |login: &str| format!("redis://{login}127.0.0.1:{}", server.port());
    let (here, other) = (at(""), at("other:pw@"));
    let backend = Redis::at(&here).await;
    let (fred, pool) = (backend.touching(), &backend.pool);
    let redis_rs = RedisRs::at(&here).await.touching();
    let command = async |name: &'static str, arguments: &[&[u8]]| {
        run(pool, name, arguments).await;
    };
    for (what, bytes) in no_records() {
        let damage = async |id| assert!(backend.overwrite(id, &bytes).await);
        stays_silent(what, &fred, &fred, damage).await;
        stays_silent(what, &redis_rs, &redis_rs, damage).await;
    }
    let another_type = async |id: Id| {
        command("DEL", &[id.to_string().as_bytes()]).await;
        command("RPUSH", &[id.to_string().as_bytes(), SECRET.as_bytes()]).await;
    };
    stays_silent("a list", &fred, &fred, another_type).await;
    stays_silent("a list", &redis_rs, &redis_rs, another_type).await;
    let forbidden = RedisStore::new(Redis::at(&other).await.pool);
    stays_silent("keys forbidden", &fred, &forbidden, unharmed).await;
    let forbidden = RedisRs::at(&other).await.touching();
    stays_silent("keys forbidden", &redis_rs, &forbidden, unharmed).await;
    let config = async |name: &str, value: &str| {
        command("CONFIG", &[b"SET", name.as_bytes(), value.as_bytes()]).await;
    };
    let full = async |_| config("maxmemory", "1").await;
    stays_silent_on("out of memory", Plain(fred.clone()), Plain(fred), full).await;
    config("maxmemory", "0").await;
    let full = async |_| config("maxmemory", "1").await;
    let here = Plain(redis_rs.clone());
    stays_silent_on("out of memory", here.clone(), here, full).await;
    config("maxmemory", "0").await;
    // A server that does not know a command quotes what it was called with.
    for unknown in ["GET", "SET", "DEL"] {
        let old = OwnServer::redis(&["--rename-command", unknown, ""]);
        let there = format!("redis://127.0.0.1:{}", old.port());
        let faulty = RedisRs::at(&there).await.touching();
        let copy = async |id: Id| {
            let key = id.to_string();
            let key = key.as_bytes();
            let theirs = Redis::at(&there).await.pool;
            let record = run(pool, "GET", &[key]).await;
            run(&theirs, "SETRANGE", &[key, b"0", &record]).await;
            run(&theirs, "EXPIRE", &[key, b"100000"]).await;
        };
        stays_silent(unknown, &redis_rs, &faulty, copy).await;
    }
    stays_silent_on(
        "killed",
        Owned(redis_rs.clone()),
        Owned(redis_rs),
        async |_| {
            server.signal("-KILL");
        },
    )
    .await;
}

async fn run(pool: &Pool, name: &'static str, arguments: &[&[u8]]) -> Vec<u8> {
    let arguments: Vec<fred::types::Value> = arguments.iter().map(|&bytes| bytes.into()).collect();
    let command = CustomCommand::new_static(name, fred::types::ClusterHash::FirstKey, false);
    let answer: fred::types::Value = pool.custom(command, arguments).await.unwrap();
    answer
        .into_bytes()
        .map(|bytes| bytes.to_vec())
        .unwrap_or_default()
}

/// Of any other store, in its own words.
#[tokio::test]
async fn of_a_store_that_names_the_session_in_its_errors() {
    for what in ["loads", "saves"] {
        let store = FailingStore::new(MemoryStore::default());
        let fails = async |_| match what {
            "loads" => store.fail_loads_after(0),
            _ => store.fail_saves(),
        };
        let serialized = Serialized::new(store.clone());
        stays_silent_on(what, Owned(serialized.clone()), Owned(serialized), fails).await;
    }
}
