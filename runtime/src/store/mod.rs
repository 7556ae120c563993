//! Stores in which a refresh moves a session's expiry and nothing else.
//!
//! A save writes a whole record, so a refresh that saves can overwrite what another request has changed and bring back
//! a session that has ended meanwhile. A *touch* moves the session's expiry and nothing else: the store does it
//! atomically, and only if the session is still there and due. Give such a store to a
//! [`LifetimeLayer`](crate::LifetimeLayer).
//!
//! | store | feature | its touch |
//! |---|---|---|
//! | [`SqliteStore`] | `sqlite`, `sqlite-sqlx-0_9` | conditional `UPDATE` of the expiry column |
//! | [`PostgresStore`] | `postgres`, `postgres-sqlx-0_9` | the same |
//! | [`MySqlStore`] | `mysql`, `mysql-sqlx-0_9` | the same |
//! | [`RedisStore`] | `redis`, `redis-rs` | a script on the server: five commands, three for a record that tower-sessions' store has written |
//! | [`Serialized`] around any other | | a load and a save, one writer of a session at a time within this process |

mod attempt;
#[cfg(feature = "conformance")]
pub mod conformance;
#[cfg(feature = "_encoded")]
mod encoded;
#[cfg(feature = "_mysql")]
#[cfg_attr(docsrs, doc(cfg(any(feature = "mysql", feature = "mysql-sqlx-0_9"))))]
mod mysql;
mod original;
#[cfg(feature = "_stores")]
mod placement;
#[cfg(feature = "_postgres")]
#[cfg_attr(
    docsrs,
    doc(cfg(any(feature = "postgres", feature = "postgres-sqlx-0_9")))
)]
mod postgres;
#[cfg(feature = "_redis")]
#[cfg_attr(docsrs, doc(cfg(any(feature = "redis", feature = "redis-rs"))))]
mod redis;
#[cfg(feature = "_redis")]
#[cfg_attr(docsrs, doc(cfg(any(feature = "redis", feature = "redis-rs"))))]
mod redis_client;
pub(crate) mod release;
mod request_session;
mod request_store;
mod serialized;
#[cfg(feature = "_sql")]
mod sql;
#[cfg(feature = "_sqlite")]
#[cfg_attr(docsrs, doc(cfg(any(feature = "sqlite", feature = "sqlite-sqlx-0_9"))))]
mod sqlite;
#[cfg(feature = "_sql")]
mod sqlx_pool;
mod touch;

#[cfg(feature = "_mysql")]
#[cfg_attr(docsrs, doc(cfg(any(feature = "mysql", feature = "mysql-sqlx-0_9"))))]
pub use mysql::{MySqlPool, MySqlStore};
#[cfg(feature = "_postgres")]
#[cfg_attr(
    docsrs,
    doc(cfg(any(feature = "postgres", feature = "postgres-sqlx-0_9")))
)]
pub use postgres::{PostgresPool, PostgresStore};
#[cfg(feature = "_redis")]
#[cfg_attr(docsrs, doc(cfg(any(feature = "redis", feature = "redis-rs"))))]
pub use redis::{RedisCheckError, RedisStore};
#[cfg(feature = "_redis")]
#[cfg_attr(docsrs, doc(cfg(any(feature = "redis", feature = "redis-rs"))))]
pub use redis_client::RedisClient;
#[doc(hidden)]
pub use release::{Record, StoreError};
pub use release::{SessionId, StoreOf};
pub(crate) use request_session::{
    Clock, Common, Handled, LiveSession, RequestSession, TouchResult,
};
pub(crate) use request_store::ReleasedStore;
pub use request_store::RequestStore;
pub use serialized::Serialized;
#[cfg(feature = "_sqlite")]
#[cfg_attr(docsrs, doc(cfg(any(feature = "sqlite", feature = "sqlite-sqlx-0_9"))))]
pub use sqlite::{SqlitePool, SqliteStore};
#[doc(hidden)]
pub use touch::{EncodedLoad, FirstTouch};
pub use touch::{IntoTouch, Touch, Touched};

pub use crate::session::{Release, V0_14, V0_15};
