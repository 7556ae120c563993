//! The application's store, for one request: what tower-sessions' layer sees.

use std::{fmt, marker::PhantomData, ops::RangeInclusive, sync::Arc};

use super::{
    attempt::Work,
    original::Original,
    release::{Data, OwnStore, Record, RecordRef, SessionId, StoreError, StoreOf, session_store},
    request_session::{
        BoxFuture, Common, ErasedStore, LoadedRecord, RequestSession, Save, Written,
    },
    touch::{EncodedLoad, FirstTouch, Touch, Touched, touch_first},
};
use crate::{
    events,
    lifetime::{KEY, OwnLifetime},
    schedule::{Extension, Millis},
    session::for_each_release,
};

/// What [`LifetimeLayer`](crate::LifetimeLayer) hands to its closure: the application's store, for one request.
///
/// It is a `SessionStore` of release `R`, which follows from the layer that the closure makes. What tower-sessions saves
/// through it is written once, with the expiry that the session's lifetime gives, and not at all if the data is as it was
/// loaded: then the expiry alone is moved, or nothing, if the request is passive or has extended the session already.
pub struct RequestStore<S, R> {
    store: Arc<ReleasedStore<S, R>>,
    request: Arc<RequestSession>,
}

impl<S: Touch + StoreOf<R>, R: 'static> RequestStore<S, R> {
    /// The store for one more request, and the handle of its session.
    pub(crate) fn new(
        store: &Arc<ReleasedStore<S, R>>,
        common: &Arc<Common>,
    ) -> (Self, Arc<RequestSession>) {
        let any = Arc::clone(store) as Arc<dyn ErasedStore>;
        let request = Arc::new(RequestSession::new(Arc::clone(common), any));
        let store = Self {
            store: Arc::clone(store),
            request: Arc::clone(&request),
        };
        (store, request)
    }
}

/// The application's store, used as one of release `R`.
pub(crate) struct ReleasedStore<S, R> {
    pub(crate) store: S,
    release: PhantomData<fn() -> R>,
}

impl<S, R> ReleasedStore<S, R> {
    pub(crate) fn new(store: S) -> Self {
        Self {
            store,
            release: PhantomData,
        }
    }
}

impl<S: Touch + StoreOf<R>, R: 'static> ReleasedStore<S, R> {
    async fn load(&self, id: SessionId) -> Result<Option<LoadedRecord>, StoreError> {
        Ok(match self.store.load_encoded(id).await? {
            EncodedLoad::Absent => None,
            #[cfg(feature = "_encoded")]
            EncodedLoad::Found { bytes, expiry_date } => {
                let record = super::encoded::read(&bytes, expiry_date)?;
                Some(loaded(record, |_| Original::Bytes(bytes)))
            }
            EncodedLoad::Unsupported => {
                let record = self.store.load(id).await?;
                record.map(|record| loaded(record, Original::of))
            }
        })
    }
}

/// Takes the session's own lifetime out of its record: nobody else sees that.
fn loaded(mut record: Record, original: impl FnOnce(&Data) -> Original) -> LoadedRecord {
    let kept = record.data.remove(KEY).and_then(|entry| {
        let own = entry.as_str().and_then(OwnLifetime::from_text);
        if own.is_none() {
            events::bad_lifetime();
        }
        own
    });
    LoadedRecord {
        kept: kept.unwrap_or_default(),
        original: original(&record.data),
        record,
    }
}

/// Puts it back, in place of whatever a handler has put there.
fn keep(kept: OwnLifetime, data: &mut Data) {
    match kept.to_text() {
        Some(text) => data.insert(KEY.to_owned(), text.into()),
        None => data.remove(KEY),
    };
}

impl<S: Touch + StoreOf<R>, R: 'static> ErasedStore for ReleasedStore<S, R> {
    fn load(&self, id: SessionId) -> BoxFuture<'_, Result<Option<LoadedRecord>, StoreError>> {
        Box::pin(self.load(id))
    }

    fn touch(self: Arc<Self>, id: SessionId, due: RangeInclusive<Millis>, expiry: Millis) -> Work {
        Box::pin(async move {
            let (from, to) = due.into_inner();
            self.store
                .touch(id, from.into()..=to.into(), expiry.into())
                .await
        })
    }

    fn touch_first(self: Arc<Self>, touch: FirstTouch) -> Work {
        Box::pin(async move {
            match self.store.touch_first(touch.clone()).await? {
                Some(touched) => Ok(touched),
                None => Ok(touch_first(&self.store, &touch).await?),
            }
        })
    }
}

impl<S: Touch + StoreOf<R>, R: 'static> OwnStore<R> for RequestStore<S, R> {
    async fn create(&self, record: &mut Record) -> Result<(), StoreError> {
        let Some((expiry, kept)) = self.request.create(record) else {
            return Ok(());
        };
        record.expiry_date = expiry.into();
        keep(kept, &mut record.data);
        let created = self.store.store.create(record).await;
        record.data.remove(KEY);
        created?;
        let original = Original::of(&record.data);
        let written = Written {
            expiry,
            kept,
            original,
        };
        self.request.learn_write(record.id, written);
        Ok(())
    }

    async fn save(&self, record: RecordRef<'_>) -> Result<(), StoreError> {
        let id = record.id;
        // Before the store is waited for: by the record's date, and the time at which it was given that, is known whether the
        // session's lifetime was set.
        self.request.notice_saved(record.expiry_date);
        if !self.request.knows(id) {
            // `clear` needs no record. What that keeps of its lifetime is kept all the same.
            let loaded = self.store.load(id).await?;
            self.request.learn_load(id, loaded);
        }
        let reason = self.request.take_reason();
        match self.request.save(record, reason) {
            Save::Nothing => {}
            Save::Touch { seen, expiry } => {
                let to = Extension::always(expiry);
                // A failure is reported; a page that has changed nothing does not fail for it.
                let touched = self.request.touch_record(id, seen, to).await;
                // Another request has given it another lifetime: it is extended by that, and so is its cookie.
                if let Ok(Touched::Shortened) = touched {
                    if let Err(error) = self.request.look_again(id).await {
                        events::load_failed(error);
                    } else if let Save::Touch { seen, expiry } = self.request.save(record, reason) {
                        let to = Extension::always(expiry);
                        let _ = self.request.touch_record(id, seen, to).await;
                    }
                }
            }
            Save::Write {
                expiry,
                kept,
                is_passive,
            } => {
                let original = Original::of(record.data);
                let mut record = Record {
                    expiry_date: expiry.into(),
                    ..record.to_owned()
                };
                keep(kept, &mut record.data);
                let store = &self.store.store;
                if !is_passive || store.save_passively(&record).await?.is_none() {
                    store.save(record).await?;
                }
                let written = Written {
                    expiry,
                    kept,
                    original,
                };
                self.request.learn_write(id, written);
            }
        }
        Ok(())
    }

    async fn load(&self, id: SessionId) -> Result<Option<Record>, StoreError> {
        if let Some(record) = self.request.take_ahead(id) {
            return Ok(record);
        }
        let loaded = self.store.load(id).await?;
        Ok(self.request.learn_load(id, loaded))
    }

    async fn delete(&self, id: SessionId) -> Result<(), StoreError> {
        self.store.store.delete(id).await?;
        self.request.ended(id);
        Ok(())
    }
}

macro_rules! request_store {
    ($release:ident, $tower_sessions:ident) => {
        session_store!(
            $release, $tower_sessions,
            [S] RequestStore<S, crate::session::$release>
            where [S: Touch + $tower_sessions::SessionStore]
        );
    };
}

for_each_release!(request_store);

impl<S, R> Clone for RequestStore<S, R> {
    fn clone(&self) -> Self {
        Self {
            store: Arc::clone(&self.store),
            request: Arc::clone(&self.request),
        }
    }
}

/// Says nothing of the session: its id is a secret, and so may be its data.
impl<S: fmt::Debug, R> fmt::Debug for RequestStore<S, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RequestStore")
            .field(&self.store.store)
            .finish()
    }
}

#[cfg(all(test, feature = "tower-sessions-0_14", feature = "memory-store"))]
mod tests {
    use time::{Duration, OffsetDateTime};
    use tower_sessions::{MemoryStore, SessionStore, session};

    use super::*;
    use crate::{
        session::{Session, V0_14},
        store::serialized::Serialized,
    };

    #[tokio::test]
    async fn a_session_that_ends_while_its_cookie_is_on_the_way_is_not_created_anew() {
        let memory = MemoryStore::default();
        let mut record = session::Record {
            id: session::Id::default(),
            data: [("a".to_owned(), 1.into())].into(),
            expiry_date: OffsetDateTime::now_utc() + Duration::HOUR,
        };
        SessionStore::create(&memory, &mut record).await.unwrap();
        let released = ReleasedStore::<_, V0_14>::new(Serialized::new(memory.clone()));
        let (store, request) = RequestStore::new(&Arc::new(released), &Arc::default());
        let theirs = tower_sessions::Session::new(Some(record.id), Arc::new(store), None);
        let ours = Session::V0_14(theirs.clone());
        assert!(request.find(&ours).await.unwrap().is_some());

        request.send_cookie(&ours);
        theirs.flush().await.unwrap();
        theirs.save().await.unwrap();
        let id = theirs.id().unwrap();
        assert_eq!(SessionStore::load(&memory, &id).await.unwrap(), None);

        // Whoever asks for one gets one, as without us.
        theirs.flush().await.unwrap();
        theirs.save().await.unwrap();
        let id = theirs.id().unwrap();
        assert!(SessionStore::load(&memory, &id).await.unwrap().is_some());
    }
}
