//! Records and stores of every release of tower-sessions, in types that belong to none.
//!
//! Only conversions: no store is named here.

use std::{collections::HashMap, fmt};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use serde_json::Value;
use time::OffsetDateTime;

use crate::session::{for_each_release, unquoted, without_id};

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
#[cfg_attr(feature = "_encoded", derive(serde::Deserialize))]
#[doc(hidden)]
pub struct Record {
    pub id: SessionId,
    pub data: Data,
    pub expiry_date: OffsetDateTime,
}

#[cfg(feature = "_stores")]
impl Record {
    pub(crate) fn as_ref(&self) -> RecordRef<'_> {
        RecordRef {
            id: self.id,
            data: &self.data,
            expiry_date: self.expiry_date,
        }
    }
}

/// The same, its data borrowed.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "_encoded", derive(serde::Serialize))]
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
pub trait StoreOf<R>: sealed::StoreOf<R> + fmt::Debug + Send + Sync + 'static {
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

mod sealed {
    pub trait StoreOf<R> {}
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

impl StoreError {
    /// That what is stored can't be decoded. Without what it holds, which decoders quote.
    pub(crate) fn decode(error: impl fmt::Display) -> Self {
        Self::Decode(unquoted(error.to_string()))
    }

    /// The same without the session's id, which a database may quote.
    pub(crate) fn about(self, id: SessionId) -> Self {
        match self {
            Self::Backend(text) => Self::Backend(without_id(id.0, text)),
            error => error,
        }
    }
}

/// What a store of this crate does, in types that belong to no release. The stores that it wraps are of release `R`.
///
/// [`session_store`] makes a `SessionStore` of it.
pub(crate) trait OwnStore<R>: Sync {
    fn create(&self, record: &mut Record) -> impl Future<Output = Result<(), StoreError>> + Send;

    fn save(&self, record: RecordRef<'_>) -> impl Future<Output = Result<(), StoreError>> + Send;

    fn load(
        &self,
        id: SessionId,
    ) -> impl Future<Output = Result<Option<Record>, StoreError>> + Send;

    fn delete(&self, id: SessionId) -> impl Future<Output = Result<(), StoreError>> + Send;
}

/// One release's types, and those that belong to none.
macro_rules! conversions_of {
    ($release:ident, $tower_sessions:ident) => {
        const _: () = {
            use crate::session::$release;
            use $tower_sessions::{
                SessionStore,
                session::{Id, Record as ItsRecord},
                session_store::Error,
            };

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
                        Error::Decode(error) => Self::decode(error),
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

            impl<S: SessionStore> sealed::StoreOf<$release> for S {}

            impl<S: SessionStore> StoreOf<$release> for S {
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
        };
    };
}

for_each_release!(conversions_of);

/// Makes an [`OwnStore`] a `SessionStore` of one release. Each store's file names it.
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
                // Not taken out of it: whoever waits for this may give up. Further in, this copy is taken apart.
                let mut ours = $crate::store::release::Record {
                    id: record.id.into(),
                    data: record.data.clone(),
                    expiry_date: record.expiry_date,
                };
                let created = $crate::store::release::OwnStore::<$crate::session::$release>::create(self, &mut ours).await;
                let id = ours.id;
                *record = ours.into();
                Ok(created.map_err(|error| error.about(id))?)
            }

            async fn save(
                &self,
                record: &$tower_sessions::session::Record,
            ) -> $tower_sessions::session_store::Result<()> {
                let ours = $crate::store::release::RecordRef {
                    id: record.id.into(),
                    data: &record.data,
                    expiry_date: record.expiry_date,
                };
                let saved = $crate::store::release::OwnStore::<$crate::session::$release>::save(self, ours).await;
                Ok(saved.map_err(|error| error.about(ours.id))?)
            }

            async fn load(
                &self,
                id: &$tower_sessions::session::Id,
            ) -> $tower_sessions::session_store::Result<
                Option<$tower_sessions::session::Record>,
            > {
                let id = (*id).into();
                let found = $crate::store::release::OwnStore::<$crate::session::$release>::load(self, id).await;
                Ok(found.map_err(|error| error.about(id))?.map(Into::into))
            }

            async fn delete(
                &self,
                id: &$tower_sessions::session::Id,
            ) -> $tower_sessions::session_store::Result<()> {
                let id = (*id).into();
                let deleted = $crate::store::release::OwnStore::<$crate::session::$release>::delete(self, id).await;
                Ok(deleted.map_err(|error| error.about(id))?)
            }
        }
    };
}
pub(crate) use session_store;
