//! What `Serialized` adds to the suite: stores that go on after they were given up, and caches.

use std::{collections::HashMap, sync::Arc, time::Duration as StdDuration};

use async_trait::async_trait;
use session_refresh::store::{Serialized, Touch as _};
use time::{Duration, OffsetDateTime};
use tokio::sync::Semaphore;
use tower_sessions::{
    CachingSessionStore, MemoryStore, SessionStore,
    session::{Id, Record},
    session_store::Result,
};

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
        async move { store.touch(id.into(), expiry, expiry).await }
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
    store.touch(id.into(), expiry, expiry).await.unwrap();
    assert_eq!(slow.store.load(&id).await.unwrap(), None);
}
