//! A store that keeps what stores behind a server keep: bytes.

use std::{
    collections::{BTreeMap, HashMap},
    ops::RangeInclusive,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use axum::BoxError;
use session_refresh::store::{EncodedLoad, SessionId, StoreError, Touch, Touched};
use time::OffsetDateTime;
use tower_sessions::{
    SessionStore,
    session::{Id, Record},
    session_store::{Error, Result},
};

/// Sessions in `rmp-serde`'s form with their expiry beside it, as this crate's Redis and SQL stores have and read them,
/// without the way there.
///
/// So that the instructions of a request can be counted with what encoding and decoding cost, and nothing else.
#[derive(Clone, Debug, Default)]
pub struct EncodedStore(Arc<Mutex<HashMap<i128, Kept>>>);

#[derive(Clone, Debug)]
struct Kept {
    bytes: Vec<u8>,
    expiry: OffsetDateTime,
}

impl EncodedStore {
    fn lock(&self) -> MutexGuard<'_, HashMap<i128, Kept>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A copy of what is kept of a live session, as it comes out of a socket.
    fn get(&self, id: i128) -> Option<Kept> {
        let now = OffsetDateTime::now_utc();
        let found = self.lock().get(&id).cloned();
        found.filter(|kept| kept.expiry > now)
    }
}

#[async_trait::async_trait]
impl SessionStore for EncodedStore {
    async fn create(&self, record: &mut Record) -> Result<()> {
        // In one order, whatever the seed of this map: what decoding costs depends on it.
        let data: BTreeMap<_, _> = record.data.iter().collect();
        let bytes = rmp_serde::to_vec(&(record.id, data, record.expiry_date));
        let kept = kept(bytes, record.expiry_date)?;
        self.lock().insert(record.id.0, kept);
        Ok(())
    }

    async fn save(&self, record: &Record) -> Result<()> {
        let encoded = kept(rmp_serde::to_vec(record), record.expiry_date)?;
        if let Some(kept) = self.lock().get_mut(&record.id.0) {
            *kept = encoded;
        }
        Ok(())
    }

    async fn load(&self, id: &Id) -> Result<Option<Record>> {
        let Some(kept) = self.get(id.0) else {
            return Ok(None);
        };
        let mut record = rmp_serde::from_slice::<Record>(&kept.bytes)
            .map_err(|error| Error::Decode(error.to_string()))?;
        record.expiry_date = kept.expiry;
        Ok(Some(record))
    }

    async fn delete(&self, id: &Id) -> Result<()> {
        self.lock().remove(&id.0);
        Ok(())
    }
}

impl Touch for EncodedStore {
    async fn touch(
        &self,
        id: SessionId,
        due: RangeInclusive<OffsetDateTime>,
        expiry: OffsetDateTime,
    ) -> std::result::Result<Touched, BoxError> {
        let now = OffsetDateTime::now_utc();
        let mut sessions = self.lock();
        Ok(match sessions.get_mut(&id.0) {
            Some(kept) if kept.expiry <= now => Touched::Gone,
            Some(kept) if kept.expiry > *due.end() || kept.expiry >= expiry => Touched::NotDue,
            Some(kept) if kept.expiry < *due.start() => Touched::Shortened,
            Some(kept) => {
                kept.expiry = expiry;
                Touched::Done
            }
            None => Touched::Gone,
        })
    }

    async fn load_encoded(&self, id: SessionId) -> std::result::Result<EncodedLoad, StoreError> {
        Ok(match self.get(id.0) {
            None => EncodedLoad::Absent,
            Some(Kept { bytes, expiry }) => EncodedLoad::Found {
                bytes,
                expiry_date: Some(expiry),
            },
        })
    }
}

fn kept(
    bytes: std::result::Result<Vec<u8>, rmp_serde::encode::Error>,
    expiry: OffsetDateTime,
) -> Result<Kept> {
    let bytes = bytes.map_err(|error| Error::Encode(error.to_string()))?;
    Ok(Kept { bytes, expiry })
}
