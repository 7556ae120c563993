//! The exported suite, and what an application sees that changes from the upstream crate to ours and back.

use std::{
    collections::HashMap,
    ops::RangeInclusive,
    sync::{Arc, Mutex, MutexGuard},
};

use serde_json::json;
use session_refresh::store::{Serialized, SessionId, Touch, Touched, V0_14, V0_15, conformance};
use session_refresh_tests::backends::{Backend, MySql, Postgres, Redis, Sqlite, on_every_backend};
use time::{Duration, OffsetDateTime};
use tower_sessions::{
    CachingSessionStore, MemoryStore, SessionStore,
    session::{Id, Record},
    session_store::Result,
};

use super::extend;

on_every_backend!(
    a_record_that_is_a_map_of_its_fields_is_one,
    every_store_keeps_the_promises_of_touch,
    the_upstream_crates_sessions_are_ours_and_the_reverse
);

async fn every_store_keeps_the_promises_of_touch<B: Backend>(backend: B) {
    conformance::check(backend.touching()).await;
}

/// S16: the other form that upstream's reader takes.
async fn a_record_that_is_a_map_of_its_fields_is_one<B: Backend>(backend: B) {
    let store = backend.touching();
    let mut record = Record {
        id: Id::default(),
        data: HashMap::from([("user".to_owned(), json!({"id": 7}))]),
        expiry_date: (OffsetDateTime::now_utc() + Duration::HOUR)
            .replace_nanosecond(0)
            .unwrap(),
    };
    backend.plain().create(&mut record).await.unwrap();
    let map = rmp_serde::to_vec_named(&record).unwrap();
    if !backend.overwrite(record.id, &map).await {
        return;
    }
    assert_eq!(store.load(&record.id).await.unwrap(), Some(record.clone()));
    record.expiry_date += Duration::HOUR;
    let expiry = record.expiry_date;
    let touched = extend(&store, record.id, expiry);
    assert_eq!(touched.await.unwrap(), Touched::Done);
    assert_eq!(store.load(&record.id).await.unwrap(), Some(record.clone()));
    record.data.insert("more".into(), json!(1));
    store.save(&record).await.unwrap();
    assert_eq!(store.load(&record.id).await.unwrap(), Some(record.clone()));
    store.delete(&record.id).await.unwrap();
}

#[path = "../../../runtime/src/guide/own_table.rs"]
#[allow(
    clippy::needless_pass_by_value,
    reason = "it reads better so in a guide"
)]
mod own_table;

/// The guide's example, whose data is JSONB.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[cfg_attr(without_postgres, ignore = "POSTGRES_URL is not set")]
async fn the_worked_example_keeps_the_promises_of_touch() {
    let backend = Postgres::connect().await;
    let table = "create table if not exists user_sessions \
        (id text primary key, data jsonb not null, expires_at timestamptz not null)";
    sqlx::query(table).execute(&backend.pool).await.unwrap();
    conformance::check(own_table::UserSessions(backend.pool)).await;
}

/// S15: a store that is wrong in one field.
#[derive(Clone, Debug)]
struct Wrong {
    store: Serialized<MemoryStore>,
    change: fn(&mut Record),
}

#[async_trait::async_trait]
impl SessionStore for Wrong {
    async fn create(&self, record: &mut Record) -> Result<()> {
        self.store.create(record).await
    }

    async fn save(&self, record: &Record) -> Result<()> {
        self.store.save(record).await
    }

    async fn load(&self, id: &Id) -> Result<Option<Record>> {
        let mut record = self.store.load(id).await?;
        record.iter_mut().for_each(self.change);
        Ok(record)
    }

    async fn delete(&self, id: &Id) -> Result<()> {
        self.store.delete(id).await
    }
}

impl Touch for Wrong {
    async fn touch(
        &self,
        id: SessionId,
        due: RangeInclusive<OffsetDateTime>,
        expiry: OffsetDateTime,
    ) -> std::result::Result<Touched, axum::BoxError> {
        self.store.touch(id, due, expiry).await
    }
}

#[tokio::test]
async fn the_suite_names_what_differs_and_takes_what_touch_allows() {
    async fn complaint(change: fn(&mut Record)) -> Option<String> {
        let store = Serialized::new(MemoryStore::default());
        let checked = tokio::spawn(conformance::check(Wrong { store, change })).await;
        let panic = checked.err()?.into_panic();
        Some(*panic.downcast::<String>().unwrap())
    }

    let a_microsecond = |record: &mut Record| record.expiry_date += Duration::MICROSECOND;
    assert_eq!(complaint(a_microsecond).await, None);
    let a_second = |record: &mut Record| record.expiry_date += Duration::SECOND;
    let said = complaint(a_second).await.unwrap();
    let begins = "a record is loaded as it was created: `expiry_date` is ";
    assert!(said.starts_with(begins) && said.len() < 160, "{said}");
    let value = |record: &mut Record| {
        record.data.insert("numbers".into(), json!(1));
    };
    let said = complaint(value).await.unwrap();
    let begins = "a record is loaded as it was created: `data` differs under \"numbers\"";
    assert!(said.contains(begins) && !said.contains("nested"), "{said}");
}

/// A store that breaks one promise, which it is named by.
#[derive(Clone, Debug)]
struct Broken {
    records: Arc<Mutex<HashMap<SessionId, Record>>>,
    breaks: &'static str,
}

impl Broken {
    fn records(&self) -> MutexGuard<'_, HashMap<SessionId, Record>> {
        self.records.lock().unwrap()
    }

    fn live(&self, id: SessionId) -> Option<Record> {
        let serves_all = self.breaks == "an expired record is gone";
        let mut found = self.records().get(&id).cloned();
        found.take_if(|record| record.expiry_date <= OffsetDateTime::now_utc() && !serves_all);
        found
    }
}

#[async_trait::async_trait]
impl SessionStore for Broken {
    async fn create(&self, record: &mut Record) -> Result<()> {
        if self.breaks != "an id that is taken is replaced" && self.live(record.id.into()).is_some()
        {
            record.id = Id::default();
        }
        self.records().insert(record.id.into(), record.clone());
        Ok(())
    }

    async fn save(&self, record: &Record) -> Result<()> {
        tokio::task::yield_now().await; // A racing touch looks at the record.
        let mut record = record.clone();
        let Some(before) = self.live(record.id.into()) else {
            if self.breaks == "a save brings nothing back" {
                self.records().insert(record.id.into(), record);
            }
            return Ok(());
        };
        match self.breaks {
            "a save is loaded as it was saved" => record.data = before.data,
            "a save, unlike a touch, may shorten" => {
                record.expiry_date = record.expiry_date.max(before.expiry_date);
            }
            _ => {}
        }
        self.records().insert(record.id.into(), record);
        Ok(())
    }

    async fn load(&self, id: &Id) -> Result<Option<Record>> {
        Ok(self.live((*id).into()))
    }

    async fn delete(&self, id: &Id) -> Result<()> {
        tokio::task::yield_now().await;
        if self.breaks != "a deleted record is gone" {
            self.records().remove(&(*id).into());
        }
        Ok(())
    }
}

impl Touch for Broken {
    async fn touch(
        &self,
        id: SessionId,
        due: RangeInclusive<OffsetDateTime>,
        expiry: OffsetDateTime,
    ) -> std::result::Result<Touched, axum::BoxError> {
        let before = self.live(id);
        // Another request, which has yielded before this one, writes it or ends it.
        tokio::task::yield_now().await;
        tokio::task::yield_now().await;
        let now = self.live(id);
        let found = match self.breaks {
            "a touch revives nothing" => self.records().get(&id).cloned(),
            "there is no such record" => now.or_else(|| {
                let records = self.records();
                let others = records.values().next();
                others.filter(|_| !records.contains_key(&id)).cloned()
            }),
            "of racing touches one is done" => before.filter(|_| now.is_some()),
            "a touch undoes no racing delete" => now.or(before),
            "a touch loses no racing save" => now.map(|record| {
                before.map_or(record.clone(), |before| Record {
                    data: before.data,
                    ..record
                })
            }),
            _ => now,
        };
        let Some(mut record) = found else {
            return Ok(Touched::Gone);
        };
        let current = record.expiry_date;
        let (from, to) = due.into_inner();
        let is_due = match self.breaks {
            "it expires after `due`" => current < expiry,
            "it expires just at the end of `due`" => current < to && current < expiry,
            "a touch never shortens" => current <= to && current != expiry,
            "a touch that changes nothing is not due" => current <= to && current <= expiry,
            _ => current <= to && current < expiry,
        };
        if !is_due {
            return Ok(Touched::NotDue);
        }
        let is_shortened = match self.breaks {
            "it expires before `due`" => false,
            "it expires just at the beginning of `due`" => current <= from,
            _ => current < from,
        };
        if is_shortened {
            return Ok(Touched::Shortened);
        }
        record.expiry_date = expiry;
        if self.breaks == "load reports the new expiry, and the same data" {
            record.data.clear();
        }
        self.records().insert(id, record);
        Ok(Touched::Done)
    }
}

#[tokio::test]
async fn the_suite_notices_each_promise_that_is_broken() {
    for promise in [
        "a save is loaded as it was saved",
        "a save, unlike a touch, may shorten",
        "a deleted record is gone",
        "an id that is taken is replaced",
        "an expired record is gone",
        "a touch revives nothing",
        "load reports the new expiry, and the same data",
        "it expires after `due`",
        "it expires before `due`",
        "it expires just at the end of `due`",
        "it expires just at the beginning of `due`",
        "a touch never shortens",
        "a touch that changes nothing is not due",
        "there is no such record",
        "a save brings nothing back",
        "of racing touches one is done",
        "a touch loses no racing save",
        "a touch undoes no racing delete",
    ] {
        let store = Broken {
            records: Arc::default(),
            breaks: promise,
        };
        let checked = tokio::spawn(conformance::check(store)).await;
        let said = checked.expect_err(promise).into_panic();
        let said = said.downcast::<String>().unwrap();
        assert!(said.contains(promise), "{promise}: {said}");
    }
    let right = Broken {
        records: Arc::default(),
        breaks: "nothing",
    };
    conformance::check(right).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cache_in_front_of_a_store_serves_no_outdated_expiry() {
    let cached = CachingSessionStore::new(MemoryStore::default(), MemoryStore::default());
    conformance::check(Serialized::new(cached)).await;
}

mod names_of_tables_and_keys_are_the_applications_to_choose {
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn on_sqlite() {
        let backend = Sqlite::connect().await;
        let store = backend.touching().with_table_name("my_sessions").unwrap();
        store.migrate().await.unwrap();
        conformance::check::<V0_14, _>(store).await;
        assert!(backend.touching().with_table_name("my sessions").is_err());
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    #[cfg_attr(without_postgres, ignore = "POSTGRES_URL is not set")]
    async fn on_postgres() {
        let backend = Postgres::connect().await;
        let store = backend
            .touching()
            .with_table_name("my_schema", "my_sessions")
            .unwrap();
        store.migrate().await.unwrap();
        conformance::check::<V0_14, _>(store).await;
        assert!(
            backend
                .touching()
                .with_table_name("my_schema", "my\"sessions")
                .is_err()
        );
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    #[cfg_attr(without_mysql, ignore = "MYSQL_URL is not set")]
    async fn on_mysql() {
        let backend = MySql::connect().await;
        let store = backend
            .touching()
            .with_table_name("my_schema", "my_sessions")
            .unwrap();
        store.migrate().await.unwrap();
        conformance::check::<V0_14, _>(store).await;
        assert!(
            backend
                .touching()
                .with_table_name("my`schema", "my_sessions")
                .is_err()
        );
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    #[cfg_attr(without_redis, ignore = "REDIS_URL is not set")]
    async fn on_redis() {
        let backend = Redis::connect().await;
        let store = backend.touching().with_key_prefix("my:sessions:");
        conformance::check::<V0_14, _>(store.clone()).await;
        conformance::check::<V0_15, _>(store).await;
    }
}

async fn the_upstream_crates_sessions_are_ours_and_the_reverse<B: Backend>(backend: B) {
    let (theirs, ours) = (backend.plain(), backend.touching());
    let now = OffsetDateTime::now_utc();
    let data = HashMap::from([("user".to_owned(), json!({"id": 7, "cart": ["tea", "salt"]}))]);
    let mut record = Record {
        id: Id::default(),
        data,
        expiry_date: now + Duration::hours(1),
    };

    // Theirs, read and touched by ours.
    theirs.create(&mut record).await.unwrap();
    assert_eq!(
        ours.load(&record.id).await.unwrap().unwrap().data,
        record.data
    );
    let expiry = now + Duration::hours(2);
    assert_eq!(
        extend(&ours, record.id, expiry).await.unwrap(),
        Touched::Done
    );
    // Touched by ours, read, saved and read by theirs and ours.
    assert_eq!(
        theirs.load(&record.id).await.unwrap().unwrap().data,
        record.data
    );
    record.data.insert("more".into(), json!(1));
    record.expiry_date = now + Duration::hours(3);
    theirs.save(&record).await.unwrap();
    let read = ours.load(&record.id).await.unwrap().unwrap();
    assert_eq!(read.data, record.data);
    assert!(
        (read.expiry_date - record.expiry_date).abs() <= Duration::SECOND,
        "Redis' store upstream keeps whole seconds"
    );
    // Saved and deleted by ours.
    record.data.remove("user");
    ours.save(&record).await.unwrap();
    assert_eq!(
        theirs.load(&record.id).await.unwrap().unwrap().data,
        record.data
    );
    ours.delete(&record.id).await.unwrap();
    assert_eq!(theirs.load(&record.id).await.unwrap(), None);
    // Ours, read and deleted by theirs.
    ours.create(&mut record).await.unwrap();
    assert_eq!(
        theirs.load(&record.id).await.unwrap().unwrap().data,
        record.data
    );
    theirs.delete(&record.id).await.unwrap();
    assert_eq!(ours.load(&record.id).await.unwrap(), None);
}

#[tokio::test]
#[cfg_attr(without_redis, ignore = "REDIS_URL is not set")]
async fn on_redis_a_touch_moves_the_expiry_in_the_record_too() {
    let backend = Redis::connect().await;
    let (theirs, ours) = (backend.plain(), backend.touching());
    let now = OffsetDateTime::now_utc();
    let now = now.replace_millisecond(now.millisecond()).unwrap();
    // Times of which upstream writes each number in as few bytes as it can, and in as many.
    for expiry in [
        (now + Duration::days(400))
            .replace_ordinal(1)
            .unwrap()
            .replace_time(time::Time::MIDNIGHT),
        (now + Duration::days(400))
            .replace_ordinal(365)
            .unwrap()
            .replace_time(time::macros::time!(23:59:59.999)),
    ] {
        for created_by_us in [true, false] {
            let mut record = Record {
                id: Id::default(),
                data: HashMap::from([("user".to_owned(), json!({"id": 7}))]),
                expiry_date: now + Duration::HOUR,
            };
            let created = if created_by_us {
                ours.create(&mut record).await
            } else {
                theirs.create(&mut record).await
            };
            created.unwrap();
            let touched = extend(&ours, record.id, expiry).await.unwrap();
            assert_eq!(touched, Touched::Done);
            let touched = Record {
                expiry_date: expiry,
                ..record.clone()
            };
            assert_eq!(ours.load(&record.id).await.unwrap(), Some(touched.clone()));
            if created_by_us {
                // Whoever reads the record alone learns it, too.
                assert_eq!(theirs.load(&record.id).await.unwrap(), Some(touched));
            }
            ours.delete(&record.id).await.unwrap();
        }
    }
}
