//! What `Serialized` adds to the suite: stores that go on after they were given up, and caches.

use std::{collections::HashMap, sync::Arc, time::Duration as StdDuration};

use async_trait::async_trait;
use session_refresh::store::Serialized;
use time::{Duration, OffsetDateTime};
use tokio::sync::Semaphore;
use tower_sessions::{
    CachingSessionStore, MemoryStore, SessionStore,
    session::{Id, Record},
    session_store::Result,
};

use super::extend;

/// Writes when the test says so, whether or not anybody still waits for it, as a database does.
#[derive(Clone, Debug)]
struct Lingering {
    store: MemoryStore,
    asked: Arc<Semaphore>,
    write: Arc<Semaphore>,
}

#[async_trait]
impl SessionStore for Lingering {
    async fn create(&self, record: &mut Record) -> Result<()> {
        self.store.create(record).await
    }

    async fn save(&self, record: &Record) -> Result<()> {
        let (this, record) = (self.clone(), record.clone());
        let writing = tokio::spawn(async move {
            this.asked.add_permits(1);
            this.write.acquire().await.unwrap().forget();
            this.store.save(&record).await
        });
        writing.await.unwrap()
    }

    async fn load(&self, id: &Id) -> Result<Option<Record>> {
        self.store.load(id).await
    }

    async fn delete(&self, id: &Id) -> Result<()> {
        self.store.delete(id).await
    }
}

fn record() -> Record {
    let expiry_date = OffsetDateTime::now_utc() + Duration::HOUR;
    Record {
        id: Id::default(),
        data: HashMap::new(),
        expiry_date,
    }
}

#[tokio::test]
async fn a_touch_that_was_given_up_undoes_no_later_logout() {
    let inner = Lingering {
        store: MemoryStore::default(),
        asked: Arc::new(Semaphore::new(0)),
        write: Arc::new(Semaphore::new(0)),
    };
    let store = Serialized::new(inner.clone());
    let mut record = record();
    store.create(&mut record).await.unwrap();
    let expiry = record.expiry_date + Duration::HOUR;
    let touch = tokio::spawn({
        let (store, id) = (store.clone(), record.id);
        async move { extend(&store, id, expiry).await }
    });
    inner.asked.acquire().await.unwrap().forget();
    touch.abort();
    assert!(touch.await.unwrap_err().is_cancelled());
    let logout = tokio::spawn({
        let (store, id) = (store.clone(), record.id);
        async move { store.delete(&id).await }
    });
    // The logout has every chance to be faster than the write.
    tokio::time::sleep(StdDuration::from_millis(20)).await;
    inner.write.add_permits(1);
    logout.await.unwrap().unwrap();
    while inner.write.available_permits() != 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(inner.load(&record.id).await.unwrap(), None);
}

/// Holds each load until the test says go.
#[derive(Clone, Debug)]
struct SlowToLoad {
    store: MemoryStore,
    loaded: Arc<Semaphore>,
    answer: Arc<Semaphore>,
}

#[async_trait]
impl SessionStore for SlowToLoad {
    async fn create(&self, record: &mut Record) -> Result<()> {
        self.store.create(record).await
    }

    async fn save(&self, record: &Record) -> Result<()> {
        self.store.save(record).await
    }

    async fn load(&self, id: &Id) -> Result<Option<Record>> {
        let record = self.store.load(id).await;
        self.loaded.add_permits(1);
        self.answer.acquire().await.unwrap().forget();
        record
    }

    async fn delete(&self, id: &Id) -> Result<()> {
        self.store.delete(id).await
    }
}

#[tokio::test]
async fn a_cache_that_fills_while_a_session_ends_brings_it_back_to_nobody() {
    let slow = SlowToLoad {
        store: MemoryStore::default(),
        loaded: Arc::new(Semaphore::new(0)),
        answer: Arc::new(Semaphore::new(0)),
    };
    let mut record = record();
    slow.create(&mut record).await.unwrap();
    let store = Serialized::new(CachingSessionStore::new(
        MemoryStore::default(),
        slow.clone(),
    ));
    let id = record.id;
    let reading = tokio::spawn({
        let store = store.clone();
        async move { store.load(&id).await }
    });
    slow.loaded.acquire().await.unwrap().forget();
    let logout = tokio::spawn({
        let store = store.clone();
        async move { store.delete(&id).await }
    });
    tokio::time::sleep(StdDuration::from_millis(20)).await;
    slow.answer.add_permits(10);
    reading.await.unwrap().unwrap();
    logout.await.unwrap().unwrap();
    let expiry = record.expiry_date + Duration::HOUR;
    extend(&store, id, expiry).await.unwrap();
    assert_eq!(slow.store.load(&id).await.unwrap(), None);
}

/// Never answers what concerns some of its sessions.
#[derive(Clone, Debug)]
struct Mute {
    store: MemoryStore,
    saves_of: Option<Id>,
    loads_of_others_than: Option<Id>,
}

#[async_trait]
impl SessionStore for Mute {
    async fn create(&self, record: &mut Record) -> Result<()> {
        self.store.create(record).await
    }

    async fn save(&self, record: &Record) -> Result<()> {
        if self.saves_of == Some(record.id) {
            std::future::pending::<()>().await;
        }
        self.store.save(record).await
    }

    async fn load(&self, id: &Id) -> Result<Option<Record>> {
        if self
            .loads_of_others_than
            .is_some_and(|answered| answered != *id)
        {
            std::future::pending::<()>().await;
        }
        self.store.load(id).await
    }

    async fn delete(&self, id: &Id) -> Result<()> {
        self.store.delete(id).await
    }
}

/// S14: a save that never ends.
#[tokio::test(start_paused = true)]
async fn a_write_that_never_ends_costs_its_own_session_and_no_other() {
    let store = MemoryStore::default();
    let (mut stuck, mut other) = (record(), record());
    store.create(&mut stuck).await.unwrap();
    store.create(&mut other).await.unwrap();
    let inner = Mute {
        store,
        saves_of: Some(stuck.id),
        loads_of_others_than: None,
    };
    let cached = Serialized::new(inner.clone());
    let plain = Serialized::without_cache(inner);
    for store in [&cached, &plain] {
        // The error says why, within the limit. Before, the request would have waited for good.
        let error = store.save(&stuck).await.unwrap_err();
        assert!(
            error.to_string().contains("no answer within 10s"),
            "{error}"
        );
        let expiry = other.expiry_date + Duration::HOUR;
        for _ in 0..3 {
            other.expiry_date = expiry;
            assert!(store.load(&other.id).await.unwrap().is_some());
            store.save(&other).await.unwrap();
            extend(store, other.id, expiry).await.unwrap();
        }
        // What is under way may arrive yet: nobody else writes the session.
        assert!(store.delete(&stuck.id).await.is_err());
        assert!(extend(store, stuck.id, expiry).await.is_err());
    }
    assert!(cached.load(&stuck.id).await.is_err());
    assert!(plain.load(&stuck.id).await.unwrap().is_some());
}

/// S14: a thousand cookies that somebody has made up, of whom the store takes its time to say that it does not know them.
#[tokio::test(start_paused = true)]
async fn made_up_cookies_cost_nobody_else_anything() {
    let store = MemoryStore::default();
    let mut victim = record();
    store.create(&mut victim).await.unwrap();
    let store = Serialized::new(Mute {
        store,
        saves_of: None,
        loads_of_others_than: Some(victim.id),
    });
    // Their ids begin as the victim's does.
    let forged = (0..1_000_i128).map(|number| Id(victim.id.0 ^ ((number + 1) << 64)));
    let forged: Vec<_> = forged
        .map(|id| {
            let store = store.clone();
            tokio::spawn(async move { store.load(&id).await })
        })
        .collect();
    tokio::task::yield_now().await;
    let began = tokio::time::Instant::now();
    let expiry = victim.expiry_date + Duration::HOUR;
    assert!(store.load(&victim.id).await.unwrap().is_some());
    extend(&store, victim.id, expiry).await.unwrap();
    store.delete(&victim.id).await.unwrap();
    // The clock stands still unless somebody waits for it.
    assert_eq!(tokio::time::Instant::now(), began);
    for load in forged {
        assert!(load.await.unwrap().is_err());
    }
}
