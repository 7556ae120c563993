//! What the SQL stores alone have to withstand: other transactions, clocks, time zones, and rows that others have written.

use std::{collections::HashMap, fs, time::Duration as StdDuration};

use axum::{Router, routing::get};
use session_refresh::session_refresh;
use session_refresh::store::{
    MySqlStore, PostgresStore, Touch, Touched, V0_14, V0_15, conformance,
};
use session_refresh_tests::{
    Owned, Setup,
    backends::{Backend as _, MySql, Postgres, Sqlite},
};
use sqlx::{MySqlPool, PgPool, mysql::MySqlPoolOptions, postgres::PgPoolOptions};
use time::{Duration, OffsetDateTime};
use tower_sessions::{
    Expiry, SessionStore,
    session::{Id, Record},
};

use super::extend;

/// Connections to PostgreSQL that are set up by a statement.
pub(super) async fn postgres(set_up: &'static str) -> PgPool {
    let server = Postgres::connect().await;
    let options = PgPoolOptions::new().after_connect(move |connection, _| {
        Box::pin(async move {
            sqlx::query(set_up).execute(connection).await?;
            Ok(())
        })
    });
    let pool = options.connect_with((*server.pool.connect_options()).clone());
    pool.await.unwrap()
}

/// The same to MySQL or MariaDB.
pub(super) async fn mysql(set_up: &'static str) -> MySqlPool {
    let server = MySql::connect().await;
    let options = MySqlPoolOptions::new().after_connect(move |connection, _| {
        Box::pin(async move {
            sqlx::query(set_up).execute(connection).await?;
            Ok(())
        })
    });
    let pool = options.connect_with((*server.pool.connect_options()).clone());
    pool.await.unwrap()
}

async fn created(store: &impl SessionStore, left: Duration) -> Record {
    let mut record = Record {
        id: Id::default(),
        data: [("user".to_owned(), 7.into())].into(),
        expiry_date: OffsetDateTime::now_utc() + left,
    };
    store.create(&mut record).await.unwrap();
    record
}

/// Touches a session to two weeks from now.
async fn touched(store: &impl Touch, id: Id) -> Touched {
    let expiry = OffsetDateTime::now_utc() + Duration::weeks(2);
    extend(store, id, expiry).await.unwrap()
}

mod every_store_keeps_the_promises_of_touch_on_sqlx_0_9 {
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn on_sqlite() {
        let backend = Sqlite::connect().await;
        let store = backend.touching_on_sqlx_0_9().await;
        conformance::check::<V0_14, _>(store.clone()).await;
        conformance::check::<V0_15, _>(store).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    #[cfg_attr(without_postgres, ignore = "POSTGRES_URL is not set")]
    async fn on_postgres() {
        let backend = Postgres::connect().await;
        let store = backend.touching_on_sqlx_0_9().await;
        conformance::check::<V0_14, _>(store.clone()).await;
        conformance::check::<V0_15, _>(store.with_synchronous_commit(true)).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    #[cfg_attr(without_mysql, ignore = "MYSQL_URL is not set")]
    async fn on_mysql() {
        let backend = MySql::connect().await;
        let store = backend.touching_on_sqlx_0_9().await;
        conformance::check::<V0_14, _>(store.clone()).await;
        conformance::check::<V0_15, _>(store).await;
    }
}

/// S13: MariaDB's timestamps end in 2038. What a page is told is what is stored.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[cfg_attr(without_mysql, ignore = "MYSQL_URL is not set")]
async fn a_lifetime_that_the_database_cannot_hold_is_told_as_it_is_stored() {
    #[session_refresh(interval = "24h")]
    async fn page() {}

    let backend = MySql::connect().await;
    let site = Setup::new(Router::new().route("/page", get(page)))
        .expiry(Expiry::OnInactivity(Duration::days(20 * 365)))
        .on(Owned(backend.touching()))
        .start()
        .await;
    let client = site.due().await;
    let latest = site.store().latest_expiry();
    let mut outcomes = Vec::new();
    for _ in 0..2 {
        let answer = client.get("/page").await;
        let stored = site.session(&client).await.expiry_date;
        assert_eq!(answer.expires_at(), Some(stored));
        assert!(stored <= latest, "{stored}");
        outcomes.push(answer.outcome().to_owned());
    }
    // Nothing is to be gained.
    assert_eq!(outcomes, ["not_due", "not_due"]);
}

/// S3: a touch that finds its row locked waits for nothing, and so revives nothing when the lock goes.
mod a_touch_of_a_locked_session_is_not_due_and_revives_nothing {
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    #[cfg_attr(without_postgres, ignore = "POSTGRES_URL is not set")]
    async fn on_postgres() {
        let backend = Postgres::connect().await;
        let store = backend.touching();
        let record = created(&store, Duration::SECOND).await;
        let lock = backend.locked(record.id).await;
        is_skipped(&store, record.id, lock.rollback()).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    #[cfg_attr(without_mysql, ignore = "MYSQL_URL is not set")]
    async fn on_mysql() {
        let backend = MySql::connect().await;
        let store = backend.touching();
        let record = created(&store, Duration::SECOND).await;
        let lock = backend.locked(record.id).await;
        is_skipped(&store, record.id, lock.rollback()).await;
    }
}

/// A session whose row is locked, until it has ended and `unlock`.
async fn is_skipped(
    store: &(impl SessionStore + Touch),
    id: Id,
    unlock: impl Future<Output = sqlx::Result<()>>,
) {
    let touch = tokio::time::timeout(StdDuration::from_secs(60), touched(store, id));
    assert_eq!(touch.await.unwrap(), Touched::Busy);
    while store.load(&id).await.unwrap().is_some() {}
    unlock.await.unwrap();
    assert_eq!(touched(store, id).await, Touched::Gone);
}

/// S4: the database's clock is five minutes ahead of this process's.
mod the_databases_clock_decides_what_has_ended {
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    #[cfg_attr(without_postgres, ignore = "POSTGRES_URL is not set")]
    async fn on_postgres() {
        // A function of the same name that is found first.
        let ahead = "create schema if not exists clock_ahead; \
        create or replace function clock_ahead.clock_timestamp() returns timestamptz language sql volatile as \
        'select pg_catalog.clock_timestamp() + interval ''5 minutes'''";

        let backend = Postgres::connect().await;
        let pool = postgres("set search_path = clock_ahead, pg_catalog, public").await;
        sqlx::raw_sql(ahead).execute(&backend.pool).await.unwrap();
        let (here, there) = (backend.touching(), PostgresStore::new(pool));
        ends_there(&here, &there).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    #[cfg_attr(without_mysql, ignore = "MYSQL_URL is not set")]
    async fn on_mysql() {
        let backend = MySql::connect().await;
        let pool = mysql("set timestamp = unix_timestamp() + 300").await;
        ends_there(&backend.touching(), &MySqlStore::new(pool)).await;
    }
}

async fn ends_there<S: SessionStore + Touch>(here: &S, there: &S) {
    let mut record = created(here, Duration::minutes(3)).await;
    assert_eq!(there.load(&record.id).await.unwrap(), None);
    assert_eq!(touched(there, record.id).await, Touched::Gone);
    record.expiry_date += Duration::WEEK;
    there.save(&record).await.unwrap();
    let left =
        here.load(&record.id).await.unwrap().unwrap().expiry_date - OffsetDateTime::now_utc();
    assert!(left < Duration::minutes(4), "{left}");
}

/// S5: a write that a serialization conflict made fail is tried again, and a touch was not due.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[cfg_attr(without_postgres, ignore = "POSTGRES_URL is not set")]
async fn a_serialization_conflict_is_no_failure() {
    let pool = postgres("set default_transaction_isolation = 'repeatable read'").await;
    let store = PostgresStore::new(pool.clone());
    for _ in 0..20 {
        let mut record = created(&store, Duration::HOUR).await;
        let mut other = pool.begin().await.unwrap();
        let locked = r#"update "tower_sessions"."session" set data = data where id = $1 returning pg_backend_pid()"#;
        let holder: i32 = sqlx::query_scalar(locked)
            .bind(record.id.to_string())
            .fetch_one(&mut *other)
            .await
            .unwrap();
        let save = tokio::spawn({
            let store = store.clone();
            record.data.insert("more".into(), 1.into());
            let record = record.clone();
            async move { store.save(&record).await }
        });
        // Until the save waits for the row.
        let waits =
            "select exists(select from pg_stat_activity where $1 = any(pg_blocking_pids(pid)))";
        while !sqlx::query_scalar::<_, bool>(waits)
            .bind(holder)
            .fetch_one(&pool)
            .await
            .unwrap()
        {
            assert!(!save.is_finished(), "it waits for the row");
        }
        other.commit().await.unwrap();
        save.await.unwrap().unwrap();
        assert_eq!(
            store.load(&record.id).await.unwrap().unwrap().data,
            record.data
        );
        let touches = (0..8).map(|_| {
            let store = store.clone();
            tokio::spawn(async move { touched(&store, record.id).await })
        });
        let mut done = 0;
        for touch in touches.collect::<Vec<_>>() {
            done += usize::from(touch.await.unwrap() == Touched::Done);
        }
        assert!(done >= 1);
    }
}

/// S6, S18.
mod a_sweep_deletes_what_has_ended_in_any_time_zone_and_locks_nothing_else {
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    #[cfg_attr(without_postgres, ignore = "POSTGRES_URL is not set")]
    async fn on_postgres() {
        let pool = postgres("set time zone 'America/New_York'").await;
        let store = PostgresStore::new(pool.clone())
            .with_table_name("swept", "session")
            .unwrap();
        store.migrate().await.unwrap();
        conformance::check::<V0_14, _>(store.clone()).await;
        let fill = r#"insert into "swept"."session" select 'x' || i, '', clock_timestamp() - interval '1 second' * i
            from generate_series(1, 2500) i on conflict do nothing"#;
        sqlx::query(fill).execute(&pool).await.unwrap();
        // Somebody holds one that has ended, and the sweep waits for him.
        let mut lock = pool.begin().await.unwrap();
        sqlx::query(r#"select from "swept"."session" where id = 'x7' for update"#)
            .execute(&mut *lock)
            .await
            .unwrap();
        let sweep = async || store.delete_expired().await.unwrap();
        sweeps(&store, sweep, lock.rollback(), 2500).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    #[cfg_attr(without_mysql, ignore = "MYSQL_URL is not set")]
    async fn on_mysql() {
        let pool = mysql("set time_zone = '-05:00'").await;
        let store = MySqlStore::new(pool.clone())
            .with_table_name("swept", "session")
            .unwrap();
        store.migrate().await.unwrap();
        conformance::check::<V0_14, _>(store.clone()).await;
        let fill = "insert ignore into swept.session with recursive n(i) as (select 1 union all select i + 1 from n where i < 999) \
            select concat('x', i), '', now(6) - interval i second from n";
        sqlx::query(fill).execute(&pool).await.unwrap();
        let mut lock = pool.begin().await.unwrap();
        sqlx::query("select 1 from swept.session where id = 'x7' for update")
            .execute(&mut *lock)
            .await
            .unwrap();
        let sweep = async || store.delete_expired().await.unwrap();
        sweeps(&store, sweep, lock.rollback(), 999).await;
    }
}

/// A sweep, while one of the sessions that have ended is locked.
async fn sweeps(
    store: &(impl SessionStore + Touch),
    sweep: impl AsyncFn() -> u64,
    unlock: impl Future<Output = sqlx::Result<()>>,
    ended: u64,
) {
    let live = created(store, Duration::minutes(1)).await;
    let touch = async {
        assert_eq!(touched(store, live.id).await, Touched::Done);
        unlock.await.unwrap();
    };
    let (deleted, ()) = tokio::join!(sweep(), touch);
    assert!(deleted >= ended, "{deleted}");
    assert_eq!(sweep().await, 0);
    assert!(store.load(&live.id).await.unwrap().is_some());
}

/// S18, measured: how long touches take while 300,000 rows are swept, ours and as upstream does it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement: it prints times, and asserts nothing of them"]
async fn touches_while_300_000_rows_are_swept() {
    const ENDED: &str = "replace into swept.session select concat('ended', seq), repeat('x', 200), \
        now() - interval 1 day from seq_1_to_300000";

    let backend = MySql::connect().await;
    let store = backend
        .touching()
        .with_table_name("swept", "session")
        .unwrap();
    store.migrate().await.unwrap();
    for sweeper in ["ours", "upstream's"] {
        sqlx::query(ENDED).execute(&backend.pool).await.unwrap();
        let sweep = tokio::spawn({
            let (store, pool) = (store.clone(), backend.pool.clone());
            async move {
                if sweeper == "ours" {
                    return store.delete_expired().await.unwrap();
                }
                let delete = "delete from swept.session where expiry_date < utc_timestamp()";
                let deleted = sqlx::query(delete).execute(&pool).await.unwrap();
                deleted.rows_affected()
            }
        });
        let mut times = Vec::new();
        while !sweep.is_finished() {
            // Both log in and come back while it goes on.
            let record = created(&store, Duration::HOUR).await;
            let began = std::time::Instant::now();
            assert_eq!(touched(&store, record.id).await, Touched::Done);
            times.push(began.elapsed());
            store.delete(&record.id).await.unwrap();
        }
        times.sort();
        let (median, longest) = (times[times.len() / 2], times[times.len() - 1]);
        println!(
            "{sweeper}: {} rows swept, {} touches, median {median:?}, longest {longest:?}",
            sweep.await.unwrap(),
            times.len(),
        );
    }
}

/// S11: whatever the digits of the times.
#[tokio::test]
async fn on_sqlite_a_touch_writes_one_page() {
    const PAGE: u64 = 4096 + 24;
    const HEADER: u64 = 32;

    let backend = Sqlite::connect().await;
    let store = backend.touching();
    let mut record = Record {
        id: Id::default(),
        data: [("fill".to_owned(), "x".repeat(1_000_000).into())].into(),
        expiry_date: OffsetDateTime::now_utc() + Duration::HOUR,
    };
    store.create(&mut record).await.unwrap();
    let log = backend
        .pool
        .connect_options()
        .get_filename()
        .with_extension("sqlite3-wal");
    let second = (record.expiry_date + Duration::HOUR)
        .replace_nanosecond(0)
        .unwrap();
    for milliseconds in [450, 500, 1000, 1001] {
        sqlx::query("pragma wal_checkpoint(truncate)")
            .execute(&backend.pool)
            .await
            .unwrap();
        let expiry = second + Duration::milliseconds(milliseconds);
        let touch = extend(&store, record.id, expiry);
        assert_eq!(touch.await.unwrap(), Touched::Done);
        let written = fs::metadata(&log).unwrap().len();
        assert_eq!(written, HEADER + PAGE, "{milliseconds}");
        assert_eq!(
            store.load(&record.id).await.unwrap().unwrap().expiry_date,
            expiry
        );
    }
}

/// S12: as upstream reads them, clamped.
mod no_date_in_a_row_panics {
    use super::*;

    #[tokio::test]
    #[cfg_attr(without_postgres, ignore = "POSTGRES_URL is not set")]
    async fn on_postgres() {
        let backend = Postgres::connect().await;
        let store = backend.touching();
        let record = created(&store, Duration::HOUR).await;
        for (date, is_live) in [
            ("infinity", true),
            ("12000-01-01", true),
            ("9999-12-31 23:59:59.9999995", true),
            ("-infinity", false),
            ("0044-03-15 BC", false),
        ] {
            sqlx::query(r#"update "tower_sessions"."session" set expiry_date = $2::text::timestamptz where id = $1"#)
                .bind(record.id.to_string())
                .bind(date)
                .execute(&backend.pool)
                .await
                .unwrap();
            is_read(&store, record.id, date, is_live).await;
        }
    }

    #[tokio::test]
    async fn on_sqlite() {
        let backend = Sqlite::connect().await;
        let store = backend.touching();
        let record = created(&store, Duration::HOUR).await;
        for (date, is_live) in [
            ("2999-01-01", true),
            ("2999-01-01 10:00", true),
            ("2999-01-01T10:00:00.5+02:00", true),
            ("9999-12-31 23:59:59.9999995", true),
            ("1999-01-01", false),
            ("soon", false),
            ("", false),
        ] {
            sqlx::query("update tower_sessions set expiry_date = ?2 where id = ?1")
                .bind(record.id.to_string())
                .bind(date)
                .execute(&backend.pool)
                .await
                .unwrap();
            is_read(&store, record.id, date, is_live).await;
        }
    }
}

async fn is_read(store: &(impl SessionStore + Touch), id: Id, date: &str, is_live: bool) {
    let loaded = store.load(&id).await.unwrap();
    assert_eq!(loaded.is_some(), is_live, "{date}");
    let expected = if is_live {
        Touched::NotDue
    } else {
        Touched::Gone
    };
    assert_eq!(touched(store, id).await, expected, "{date}");
}

mod a_forgotten_migration_is_named_and_several_at_once_are_one {
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn on_sqlite() {
        let backend = Sqlite::connect().await;
        let store = backend.touching().with_table_name("forgotten").unwrap();
        says_migrate(&store).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    #[cfg_attr(without_postgres, ignore = "POSTGRES_URL is not set")]
    async fn on_postgres() {
        let backend = Postgres::connect().await;
        let store = backend
            .touching()
            .with_table_name("forgotten", "session")
            .unwrap();
        // Each step of it may be the one at which another is faster.
        for _ in 0..20 {
            sqlx::query("drop schema if exists forgotten cascade")
                .execute(&backend.pool)
                .await
                .unwrap();
            says_migrate(&store).await;
            let migrations = (0..8).map(|_| {
                let store = store.clone();
                tokio::spawn(async move { store.migrate().await })
            });
            for migration in migrations.collect::<Vec<_>>() {
                migration.await.unwrap().unwrap();
            }
        }
        // Something else has the name: that is not waited for.
        let type_of_the_name =
            "drop table forgotten.session; create type forgotten.session as enum ()";
        sqlx::raw_sql(type_of_the_name)
            .execute(&backend.pool)
            .await
            .unwrap();
        let error = store.migrate().await.unwrap_err().to_string();
        assert!(error.contains("already exists"), "{error}");
        sqlx::query("drop type forgotten.session")
            .execute(&backend.pool)
            .await
            .unwrap();
        store.migrate().await.unwrap();
        created(&store, Duration::HOUR).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    #[cfg_attr(without_mysql, ignore = "MYSQL_URL is not set")]
    async fn on_mysql() {
        let backend = MySql::connect().await;
        sqlx::query("drop schema if exists forgotten")
            .execute(&backend.pool)
            .await
            .unwrap();
        let store = backend
            .touching()
            .with_table_name("forgotten", "session")
            .unwrap();
        says_migrate(&store).await;
        store.migrate().await.unwrap();
        created(&store, Duration::HOUR).await;
    }
}

async fn says_migrate(store: &(impl SessionStore + Touch)) {
    let error = store.load(&Id::default()).await.unwrap_err().to_string();
    assert!(error.contains("::migrate`"), "{error}");
    let expiry = OffsetDateTime::now_utc();
    let touch = extend(store, Id::default(), expiry).await;
    assert_eq!(touch.unwrap_err().to_string(), error);
    let mut record = Record {
        id: Id::default(),
        data: HashMap::new(),
        expiry_date: expiry + Duration::HOUR,
    };
    let created = store.create(&mut record).await;
    let error = created.unwrap_err().to_string();
    assert!(error.contains("::migrate`"), "{error}");
}

/// A deferred trigger sees how its transaction commits.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[cfg_attr(without_postgres, ignore = "POSTGRES_URL is not set")]
async fn on_postgresql_a_touch_alone_commits_without_waiting_for_the_disk() {
    let backend = Postgres::connect().await;
    let drop = "drop schema if exists commits cascade";
    sqlx::query(drop).execute(&backend.pool).await.unwrap();
    let synchronous = backend.touching().with_synchronous_commit(true);
    let asynchronous = backend
        .touching()
        .with_table_name("commits", "session")
        .unwrap();
    let synchronous = synchronous.with_table_name("commits", "session").unwrap();
    asynchronous.migrate().await.unwrap();
    let watch = r"create table commits.seen (setting text);
        create function commits.see() returns trigger language plpgsql as
            'begin insert into commits.seen values (current_setting(''synchronous_commit'')); return null; end';
        create constraint trigger see after update on commits.session deferrable initially deferred
            for each row execute function commits.see()";
    sqlx::raw_sql(watch).execute(&backend.pool).await.unwrap();
    let seen = async || -> Vec<String> {
        let seen = sqlx::query_scalar("delete from commits.seen returning setting");
        seen.fetch_all(&backend.pool).await.unwrap()
    };

    let record = created(&asynchronous, Duration::HOUR).await;
    assert_eq!(touched(&asynchronous, record.id).await, Touched::Done);
    assert_eq!(seen().await, ["off"]);
    asynchronous.save(&record).await.unwrap();
    assert_eq!(seen().await, ["on"]);
    assert_eq!(touched(&synchronous, record.id).await, Touched::Done);
    assert_eq!(seen().await, ["on"]);
}

/// The first form is MariaDB's and is what the other tests meet there; it understands the others as well.
#[tokio::test]
#[cfg_attr(without_mysql, ignore = "MYSQL_URL is not set")]
async fn every_form_of_a_touch_on_mysql_does_the_same() {
    let pool = MySql::connect().await.pool;
    let of_form = |form| MySqlStore::new(pool.clone()).with_touch_form(form);
    let forms: Vec<_> = (0..).map_while(of_form).collect();
    assert_eq!(forms.len(), 3);
    for (form, store) in forms.into_iter().enumerate() {
        // To the second, which each of them can keep.
        let expiry_date = OffsetDateTime::now_utc() + Duration::HOUR;
        let mut record = Record {
            id: Id::default(),
            data: [("user".to_owned(), 7.into())].into(),
            expiry_date: expiry_date.replace_nanosecond(0).unwrap(),
        };
        store.create(&mut record).await.unwrap();
        let touch = |due, expiry| store.touch(record.id.into(), due, expiry);
        let (expiry, later) = (record.expiry_date, record.expiry_date + Duration::HOUR);
        let millisecond = Duration::MILLISECOND;
        for (due, expiry, touched) in [
            (
                expiry - millisecond..=expiry - millisecond,
                later,
                Touched::NotDue,
            ),
            (expiry + millisecond..=later, later, Touched::Shortened),
            (expiry..=later, expiry, Touched::NotDue),
            (expiry..=expiry, later, Touched::Done),
            (expiry..=expiry, later, Touched::NotDue),
        ] {
            assert_eq!(touch(due, expiry).await.unwrap(), touched, "{form}");
        }
        let found = store.load(&record.id).await.unwrap().unwrap();
        assert_eq!((found.data, found.expiry_date), (record.data, later));
        store.delete(&record.id).await.unwrap();
        assert_eq!(
            touch(later..=later, later).await.unwrap(),
            Touched::Gone,
            "{form}"
        );
        assert_eq!(store.touch_form(), form, "it was understood");
    }
}
