//! Stores in which a refresh moves a session's expiry and nothing else.
//!
//! A save writes a whole record, so a refresh that saves can overwrite what another request has changed and bring back
//! a session that has ended meanwhile. [`RefreshStore`] turns a save of unchanged data into a [`Touch::touch`], which
//! the store does atomically and only if the session is still there and due.
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
pub(crate) mod original;
#[cfg(feature = "redis")]
mod redis;
pub(crate) mod release;
mod request_store;
mod serialized;
#[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
mod sql;

/// For the benches, whose store is as ours are. Not a public interface.
#[cfg(feature = "_encoded")]
#[doc(hidden)]
pub use encoded::decode;
#[cfg(feature = "redis")]
pub use redis::RedisStore;
pub(crate) use release::Data;
pub use release::{AnyStore, SessionId, V0_14, V0_15};
pub use request_store::RefreshStore;
pub(crate) use request_store::{Commit, Committed, committing};
pub use serialized::Serialized;
#[cfg(feature = "mysql")]
pub use sql::MySqlStore;
#[cfg(feature = "postgres")]
pub use sql::PostgresStore;
#[cfg(feature = "sqlite")]
pub use sql::SqliteStore;

use axum::BoxError;
use time::OffsetDateTime;

/// A session store that can move a record's expiry without rewriting the record.
///
/// tower-sessions' own `SessionStore` can only save whole records, the last one wins. What a touch needs instead has to
/// happen in the store itself, in one step, so it is a trait of its own, the same for every release of tower-sessions. A
/// store that implements both promises:
///
/// - [`touch`](Self::touch) is atomic, and does nothing unless the record is live and its expiry is at or before
///   `due_before` and before `expiry`: it never creates, shortens or revives.
/// - `SessionStore::load` reports the record's true expiry, a touch's included, to the millisecond.
/// - `SessionStore::create` is implemented: the default one calls `save`, which creates nothing here.
/// - `SessionStore::save` updates a live record and does nothing for one that is gone: it answers `Ok`.
///
/// The feature `conformance` has a suite that holds a store to this.
#[diagnostic::on_unimplemented(
    message = "`{Self}` can't move a session's expiry without rewriting the session",
    label = "not a store that can touch",
    note = "use one of `session_refresh::store`'s stores, or wrap yours: `RefreshStore::new(Serialized::new(store))`",
    note = "tower-sessions' `CachingSessionStore` can't be reached inside: its cache would go on serving the old expiry unless each touch goes through it, as `Serialized` does"
)]
pub trait Touch: Send + Sync + 'static {
    /// Whether its `load` tells the fingerprint of the data that it answers with. Only a store that reads the bytes itself
    /// can; one that wraps it may change the data.
    #[doc(hidden)]
    const TELLS: bool = false;

    /// Moves the expiry of a live record to `expiry` if it is at or before `due_before` and before `expiry`.
    ///
    /// # Errors
    /// If the store can't be reached or refuses.
    fn touch(
        &self,
        id: SessionId,
        due_before: OffsetDateTime,
        expiry: OffsetDateTime,
    ) -> impl Future<Output = Result<Touched, BoxError>> + Send;
}

/// What a [`Touch::touch`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Touched {
    /// The record now expires at the time given.
    Done,
    /// The record expires late enough.
    NotDue,
    /// There is no live record with this id.
    Gone,
}

/// What [`RefreshStore::new`] takes: a store that can touch, or one that [`Serialized`] makes able to.
#[diagnostic::on_unimplemented(
    message = "`{Self}` can't move a session's expiry without rewriting the session",
    label = "not a store that can touch",
    note = "use one of `session_refresh::store`'s stores, or wrap yours: `RefreshStore::new(Serialized::new(store))`",
    note = "tower-sessions' `CachingSessionStore` can't be reached inside: its cache would go on serving the old expiry unless each touch goes through it, as `Serialized` does"
)]
pub trait IntoTouch {
    /// The store that can touch.
    type Store: Touch;

    /// Wraps the store if need be.
    fn into_touch(self) -> Self::Store;
}

impl<S: Touch> IntoTouch for S {
    type Store = S;

    fn into_touch(self) -> S {
        self
    }
}
