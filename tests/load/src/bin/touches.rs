//! How many sessions a store touches and saves in a second, and what that writes, into `results/touches.tsv`:
//! `touches [ROUNDS]`. Each of 2,000 sessions of 1 KB in turn, by 1 and by 8 clients, in rounds of all ways by turns.

use std::{
    fmt::Write as _,
    fs,
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use fred::{
    prelude::{ClientLike as _, Pool},
    types::InfoKind,
};
use session_refresh::store::{PostgresStore, RedisStore, SessionId, SqliteStore, Touch, Touched};
use session_refresh_cost::{LIFETIME, record};
use session_refresh_load::{fill, results};
use sqlx::{PgPool, SqlitePool, postgres::PgPoolOptions, sqlite::SqliteConnectOptions};
use time::OffsetDateTime;
use tokio::task::JoinSet;
use tower_sessions::{SessionStore, session::Record};
use tower_sessions_redis_store::RedisStore as TheirRedis;
use tower_sessions_sqlx_store::{PostgresStore as TheirPostgres, SqliteStore as TheirSqlite};

const SESSIONS: usize = 2_000;
const ROUND: Duration = Duration::from_secs(2);
const CLIENTS: [usize; 2] = [1, 8];

/// What is done to a session again and again.
#[derive(Clone)]
enum Work<T, S> {
    Touch(T),
    Save(S),
}

impl<T: Touch, S: SessionStore> Work<T, S> {
    async fn run(&self, record: &mut Record) {
        // Each a second later than the one before.
        static AHEAD: AtomicU32 = AtomicU32::new(0);
        let ahead = Duration::from_secs(AHEAD.fetch_add(1, Ordering::Relaxed).into());
        let expiry = OffsetDateTime::now_utc() + LIFETIME + ahead;
        match self {
            Self::Touch(store) => {
                let touched = store
                    .touch(
                        SessionId::from(record.id),
                        OffsetDateTime::UNIX_EPOCH..=expiry,
                        expiry,
                    )
                    .await;
                assert_eq!(touched.expect("the store answers"), Touched::Done);
            }
            Self::Save(store) => {
                record.expiry_date = expiry;
                store.save(record).await.expect("the store answers");
            }
        }
    }
}

/// What a store's server tells of what it has done: bytes of its log, or commands.
trait Written: Sync {
    fn written(&self) -> impl Future<Output = u64> + Send;
}

impl Written for PgPool {
    async fn written(&self) -> u64 {
        let bytes = "select pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint";
        let bytes: i64 = sqlx::query_scalar(bytes)
            .fetch_one(self)
            .await
            .expect("it answers");
        bytes.unsigned_abs()
    }
}

/// Nothing: its log begins anew now and then.
impl Written for SqlitePool {
    async fn written(&self) -> u64 {
        0
    }
}

/// Commands, those inside of scripts included.
impl Written for Pool {
    async fn written(&self) -> u64 {
        let info: String = self.info(Some(InfoKind::Stats)).await.expect("it answers");
        let line = info
            .lines()
            .find_map(|line| line.strip_prefix("total_commands_processed:"));
        line.expect("it tells").trim().parse().expect("a number")
    }
}

/// As many as there is time for: how many in a second, and what each has written.
async fn round<T, S>(
    clients: usize,
    work: &Work<T, S>,
    records: &[Record],
    server: &impl Written,
) -> (f64, u64)
where
    T: Touch + Clone,
    S: SessionStore + Clone,
{
    let (before, began) = (server.written().await, Instant::now());
    let mut running = JoinSet::new();
    for client in 0..clients {
        let work = work.clone();
        let mut own: Vec<_> = records
            .iter()
            .skip(client)
            .step_by(clients)
            .cloned()
            .collect();
        running.spawn(async move {
            let mut done = 0;
            while began.elapsed() <= ROUND {
                let record = done % own.len();
                work.run(&mut own[record]).await;
                done += 1;
            }
            done
        });
    }
    let done: usize = running.join_all().await.into_iter().sum();
    let seconds = began.elapsed().as_secs_f64();
    let written = (server.written().await - before) / done as u64;
    (done as f64 / seconds, written)
}

/// All ways by turns, and a line for each round of each.
async fn compare<T, S>(
    store: &str,
    ways: &[(&str, Work<T, S>)],
    rounds: usize,
    records: &[Record],
    server: &impl Written,
    lines: &mut String,
) where
    T: Touch + Clone,
    S: SessionStore + Clone,
{
    for clients in CLIENTS {
        for number in 1..=rounds {
            for (way, work) in ways {
                let (per_second, written) = round(clients, work, records, server).await;
                let line =
                    format!("{store}\t{way}\t{clients}\t{number}\t{per_second:.0}\t{written}");
                println!("{line}");
                let _ = writeln!(lines, "{line}");
            }
        }
    }
}

async fn filled(store: &(impl SessionStore + Clone)) -> Vec<Record> {
    let mut records = Vec::new();
    for _ in 0..SESSIONS {
        let mut record = record(1_000, OffsetDateTime::now_utc() + LIFETIME);
        store.create(&mut record).await.expect("the store answers");
        records.push(record);
    }
    records
}

async fn postgres(rounds: usize, lines: &mut String) {
    let url = session_refresh_load::url("POSTGRES_URL");
    let pool = PgPoolOptions::new().max_connections(9).connect(&url);
    let pool = pool.await.expect("PostgreSQL answers");
    for fillfactor in [100, 80] {
        let ours = PostgresStore::new(pool.clone())
            .with_table_name("tower_sessions", "touches")
            .expect("a name");
        let theirs = TheirPostgres::new(pool.clone())
            .with_table_name("touches")
            .expect("a name");
        ours.migrate().await.expect("a table can be created");
        let set = format!("alter table tower_sessions.touches set (fillfactor = {fillfactor})");
        sqlx::raw_sql(&set)
            .execute(&pool)
            .await
            .expect("a table can be altered");
        let records = filled(&ours).await;
        sqlx::raw_sql("checkpoint")
            .execute(&pool)
            .await
            .expect("the server may be told");
        let synchronous = ours.clone().with_synchronous_commit(true);
        let ways = [
            ("save-upstream", Work::Save(theirs)),
            ("touch-synchronous", Work::Touch(synchronous)),
            ("touch", Work::Touch(ours)),
        ];
        let store = format!("postgres-fillfactor-{fillfactor}");
        compare(&store, &ways, rounds, &records, &pool, lines).await;
        sqlx::raw_sql("drop table tower_sessions.touches")
            .execute(&pool)
            .await
            .expect("it was there");
    }
}

async fn sqlite(rounds: usize, lines: &mut String) {
    let folder = tempfile::tempdir().expect("there is room for temporary files");
    let options = SqliteConnectOptions::new()
        .filename(folder.path().join("sessions.sqlite3"))
        .create_if_missing(true)
        .journal_mode(sqlx::sqlite::SqliteJournalMode::Wal)
        .synchronous(sqlx::sqlite::SqliteSynchronous::Normal);
    let pool = SqlitePool::connect_with(options)
        .await
        .expect("a file can be made");
    let ours = SqliteStore::new(pool.clone());
    ours.migrate().await.expect("a table can be created");
    let records = filled(&ours).await;
    let ways = [
        ("save-upstream", Work::Save(TheirSqlite::new(pool.clone()))),
        ("touch", Work::Touch(ours)),
    ];
    compare("sqlite-wal", &ways, rounds, &records, &pool, lines).await;
}

async fn redis(rounds: usize, lines: &mut String) {
    let pool = fill::redis().await;
    let ours = RedisStore::new(pool.clone());
    let records = filled(&ours).await;
    let ids: Vec<_> = records.iter().map(|record| record.id.to_string()).collect();
    let ways = [
        ("save-upstream", Work::Save(TheirRedis::new(pool.clone()))),
        ("touch", Work::Touch(ours)),
    ];
    compare("redis", &ways, rounds, &records, &pool, lines).await;
    fill::remove("redis", &ids).await;
}

#[tokio::main]
async fn main() {
    let rounds = std::env::args()
        .nth(1)
        .map_or(7, |text| text.parse().expect("a number"));
    let mut lines =
        String::from("store\tway\tclients\tround\tper_second\tbytes_or_commands_each\n");
    postgres(rounds, &mut lines).await;
    sqlite(rounds, &mut lines).await;
    redis(rounds, &mut lines).await;
    fs::write(results("touches.tsv"), lines).expect("the results can be written");
}
