//! Stores in which a refresh moves a session's expiry and nothing else.
//!
//! A save writes a whole record, so a refresh that saves can overwrite what another request has changed and bring back
//! a session that has ended meanwhile. A *touch* moves the session's expiry and nothing else: the store does it
//! atomically, and only if the session is still there and due. Give such a store to a
//! [`LifetimeLayer`](crate::LifetimeLayer).
//!
//! | store | feature | its touch |
//! |---|---|---|
//! | [`SqliteStore`] | `sqlite` | conditional `UPDATE` of the expiry column |
//! | [`PostgresStore`] | `postgres` | the same |
//! | [`MySqlStore`] | `mysql` | the same |
//! | [`RedisStore`] | `redis` | a script of five commands on the server |
//! | [`Serialized`] around any other | | one after another within this process |

mod attempt;
#[cfg(feature = "conformance")]
pub mod conformance;
#[cfg(feature = "_encoded")]
mod encoded;
mod original;
#[cfg(feature = "redis")]
mod redis;
pub(crate) mod release;
mod request_session;
mod request_store;
mod serialized;
#[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
mod sql;
mod touch;

#[cfg(feature = "redis")]
pub use redis::RedisStore;
#[doc(hidden)]
pub use release::StoreError;
pub use release::{SessionId, StoreOf};
pub(crate) use request_session::{Clock, Common, Handled, RequestSession, TouchResult};
pub(crate) use request_store::ReleasedStore;
pub use request_store::RequestStore;
pub use serialized::Serialized;
#[cfg(feature = "mysql")]
pub use sql::MySqlStore;
#[cfg(feature = "postgres")]
pub use sql::PostgresStore;
#[cfg(feature = "sqlite")]
pub use sql::SqliteStore;
#[doc(hidden)]
pub use touch::{EncodedLoad, FirstTouch};
pub use touch::{IntoTouch, Touch, Touched};

pub use crate::session::{Release, V0_14, V0_15};
