//! Session stores of every release of tower-sessions, and this crate's own among them.

use std::{collections::HashMap, fmt};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use serde_json::Value;
use time::OffsetDateTime;

#[cfg(feature = "redis")]
use super::RedisStore;
use super::{RefreshStore, Serialized, Touch};
use crate::session::for_each_release;

/// Stands for tower-sessions 0.14.
#[derive(Clone, Copy, Debug)]
pub enum V0_14 {}

/// Stands for tower-sessions 0.15.
#[derive(Clone, Copy, Debug)]
pub enum V0_15 {}

/// What a store of this crate needs of a release.
#[cfg(feature = "redis")]
pub(crate) trait Release: 'static {
    /// An id that nobody can guess.
    fn random_id() -> SessionId;
}

/// A session's id, whatever the release of tower-sessions: the number of its `Id`, and the same text.
///
/// ```
/// # #[cfg(feature = "tower-sessions-0_14")] {
/// use session_refresh::{store::SessionId, tower_sessions_0_14::session::Id};
///
/// let id = Id::default();
/// assert_eq!(SessionId::from(id).to_string(), id.to_string());
/// assert_eq!(Id::from(SessionId(7)), Id(7));
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "_encoded", derive(serde::Serialize, serde::Deserialize))]
pub struct SessionId(pub i128);

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0; 22];
        let written = BASE64_URL_SAFE_NO_PAD.encode_slice(self.0.to_le_bytes(), &mut text);
        let text = written.ok().and_then(|length| text.get(..length));
        f.pad(std::str::from_utf8(text.unwrap_or_default()).map_err(|_| fmt::Error)?)
    }
}

/// What a session holds.
pub(crate) type Data = HashMap<String, Value>;

/// A session as stores keep it.
#[derive(Clone, Debug, PartialEq)]
#[doc(hidden)]
pub struct Record {
    pub id: SessionId,
    pub data: Data,
    pub expiry_date: OffsetDateTime,
}

/// The same, its data borrowed.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "redis", derive(serde::Serialize))]
pub(crate) struct RecordRef<'a> {
    pub(crate) id: SessionId,
    pub(crate) data: &'a Data,
    pub(crate) expiry_date: OffsetDateTime,
}

impl RecordRef<'_> {
    pub(crate) fn to_owned(self) -> Record {
        Record {
            id: self.id,
            data: self.data.clone(),
            expiry_date: self.expiry_date,
        }
    }
}

/// Any session store of release `R`: whatever implements that release's `SessionStore`.
///
/// It is never written out: which release it is follows from the store.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a session store of an enabled release of tower-sessions",
    label = "not a `SessionStore` that this build knows",
    note = "session-refresh's features `tower-sessions-0_14` and `tower-sessions-0_15` say which releases it knows"
)]
pub trait AnyStore<R>: fmt::Debug + Send + Sync + 'static {
    #[doc(hidden)]
    fn create(&self, record: &mut Record) -> impl Future<Output = Result<(), StoreError>> + Send;

    #[doc(hidden)]
    fn save(&self, record: Record) -> impl Future<Output = Result<(), StoreError>> + Send;

    #[doc(hidden)]
    fn load(
        &self,
        id: SessionId,
    ) -> impl Future<Output = Result<Option<Record>, StoreError>> + Send;

    #[doc(hidden)]
    fn delete(&self, id: SessionId) -> impl Future<Output = Result<(), StoreError>> + Send;
}

/// A store's failure, in its own words.
#[derive(Clone, Debug)]
#[doc(hidden)]
pub enum StoreError {
    Encode(String),
    Decode(String),
    Backend(String),
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Encode(error) => write!(f, "Encoding failed with: {error}"),
            Self::Decode(error) => write!(f, "Decoding failed with: {error}"),
            Self::Backend(error) => f.write_str(error),
        }
    }
}

impl std::error::Error for StoreError {}

/// A store of this crate, in types that belong to no release. The stores that it wraps are of release `R`.
pub(crate) trait Records<R>: Sync {
    fn create(&self, record: &mut Record) -> impl Future<Output = Result<(), StoreError>> + Send;

    fn save(&self, record: RecordRef<'_>) -> impl Future<Output = Result<(), StoreError>> + Send;

    fn load(
        &self,
        id: SessionId,
    ) -> impl Future<Output = Result<Option<Record>, StoreError>> + Send;

    fn delete(&self, id: SessionId) -> impl Future<Output = Result<(), StoreError>> + Send;
}

/// What one release's stores and this crate's are to each other.
macro_rules! stores_of {
    ($release:ident, $tower_sessions:ident) => {
        const _: () = {
            use $tower_sessions::{
                ExpiredDeletion, SessionStore,
                session::{Id, Record as ItsRecord},
                session_store::{Error, Result as ItsResult},
            };

            #[cfg(feature = "redis")]
            impl Release for $release {
                fn random_id() -> SessionId {
                    Id::default().into()
                }
            }

            impl From<Id> for SessionId {
                fn from(id: Id) -> Self {
                    Self(id.0)
                }
            }

            impl From<SessionId> for Id {
                fn from(id: SessionId) -> Self {
                    Self(id.0)
                }
            }

            impl From<Error> for StoreError {
                fn from(error: Error) -> Self {
                    match error {
                        Error::Encode(error) => Self::Encode(error),
                        Error::Decode(error) => Self::Decode(error),
                        Error::Backend(error) => Self::Backend(error),
                    }
                }
            }

            impl From<StoreError> for Error {
                fn from(error: StoreError) -> Self {
                    match error {
                        StoreError::Encode(error) => Self::Encode(error),
                        StoreError::Decode(error) => Self::Decode(error),
                        StoreError::Backend(error) => Self::Backend(error),
                    }
                }
            }

            impl From<ItsRecord> for Record {
                fn from(record: ItsRecord) -> Self {
                    Self {
                        id: record.id.into(),
                        data: record.data,
                        expiry_date: record.expiry_date,
                    }
                }
            }

            impl From<Record> for ItsRecord {
                fn from(record: Record) -> Self {
                    Self {
                        id: record.id.into(),
                        data: record.data,
                        expiry_date: record.expiry_date,
                    }
                }
            }

            impl<S: SessionStore> AnyStore<$release> for S {
                async fn create(&self, record: &mut Record) -> Result<(), StoreError> {
                    let mut theirs = ItsRecord {
                        id: record.id.into(),
                        data: std::mem::take(&mut record.data),
                        expiry_date: record.expiry_date,
                    };
                    let created = SessionStore::create(self, &mut theirs).await;
                    *record = theirs.into();
                    Ok(created?)
                }

                async fn save(&self, record: Record) -> Result<(), StoreError> {
                    Ok(SessionStore::save(self, &record.into()).await?)
                }

                async fn load(&self, id: SessionId) -> Result<Option<Record>, StoreError> {
                    let found = SessionStore::load(self, &id.into()).await?;
                    Ok(found.map(Record::from))
                }

                async fn delete(&self, id: SessionId) -> Result<(), StoreError> {
                    Ok(SessionStore::delete(self, &id.into()).await?)
                }
            }

            session_store!(
                $release, $tower_sessions,
                [S] RefreshStore<S> where [S: Touch + SessionStore]
            );

            session_store!(
                $release, $tower_sessions,
                [S] Serialized<S, $release> where [S: SessionStore]
            );

            #[cfg(feature = "redis")]
            session_store!(
                $release, $tower_sessions,
                [C] RedisStore<C>
                where [C: super::redis::Client]
            );

            #[cfg(feature = "testing")]
            session_store!(
                $release, $tower_sessions,
                [S] crate::testing::CountingStore<S> where [S: SessionStore]
            );

            #[async_trait::async_trait]
            impl<S: Touch + ExpiredDeletion> ExpiredDeletion for RefreshStore<S> {
                async fn delete_expired(&self) -> ItsResult<()> {
                    self.inner().delete_expired().await
                }
            }

            #[async_trait::async_trait]
            impl<S: ExpiredDeletion> ExpiredDeletion for Serialized<S, $release> {
                async fn delete_expired(&self) -> ItsResult<()> {
                    self.inner().delete_expired().await
                }
            }

            #[cfg(feature = "memory-store")]
            #[cfg_attr(docsrs, doc(cfg(feature = "memory-store")))]
            impl super::IntoTouch for $tower_sessions::MemoryStore {
                type Store = Serialized<Self, $release>;

                fn into_touch(self) -> Self::Store {
                    Serialized::new_reading(self)
                }
            }
        };
    };
}

/// Makes a store that keeps records in no release's form a session store of one.
macro_rules! session_store {
    (
        $release:ident, $tower_sessions:ident,
        [$($generics:tt)*] $store:ty where [$($bounds:tt)*]
    ) => {
        #[async_trait::async_trait]
        impl<$($generics)*> $tower_sessions::SessionStore for $store
        where
            $($bounds)*
        {
            async fn create(
                &self,
                record: &mut $tower_sessions::session::Record,
            ) -> $tower_sessions::session_store::Result<()> {
                let mut ours = Record {
                    id: record.id.into(),
                    data: std::mem::take(&mut record.data),
                    expiry_date: record.expiry_date,
                };
                let created = Records::<$release>::create(self, &mut ours).await;
                *record = ours.into();
                Ok(created?)
            }

            async fn save(
                &self,
                record: &$tower_sessions::session::Record,
            ) -> $tower_sessions::session_store::Result<()> {
                let ours = RecordRef {
                    id: record.id.into(),
                    data: &record.data,
                    expiry_date: record.expiry_date,
                };
                Ok(Records::<$release>::save(self, ours).await?)
            }

            async fn load(
                &self,
                id: &$tower_sessions::session::Id,
            ) -> $tower_sessions::session_store::Result<
                Option<$tower_sessions::session::Record>,
            > {
                let found = Records::<$release>::load(self, (*id).into()).await?;
                Ok(found.map(Into::into))
            }

            async fn delete(
                &self,
                id: &$tower_sessions::session::Id,
            ) -> $tower_sessions::session_store::Result<()> {
                Ok(Records::<$release>::delete(self, (*id).into()).await?)
            }
        }
    };
}

for_each_release!(stores_of);
