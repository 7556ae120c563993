//! What a store must be able to do for a refresh, beside what tower-sessions asks of it.

use axum::BoxError;
use time::OffsetDateTime;

use super::release::{SessionId, StoreError};

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
    note = "use one of `session_refresh::store`'s stores, or wrap yours: `Serialized::new(store)`",
    note = "tower-sessions' `CachingSessionStore` can't be reached inside: its cache would go on serving the old expiry unless each touch goes through it, as `Serialized` does"
)]
pub trait Touch: Send + Sync + 'static {
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

    /// Loads a live record as the bytes that it is kept in. Only this crate's stores know how.
    #[doc(hidden)]
    fn load_encoded(
        &self,
        _: SessionId,
    ) -> impl Future<Output = Result<EncodedLoad, StoreError>> + Send {
        std::future::ready(Ok(EncodedLoad::Unsupported))
    }
}

/// What a [`Touch::load_encoded`] found.
#[doc(hidden)]
#[allow(missing_debug_implementations, reason = "it holds a session")]
pub enum EncodedLoad {
    /// The store keeps no bytes: ask its `SessionStore::load`.
    Unsupported,
    /// There is no live record with this id.
    Absent,
    /// Upstream's record as `rmp-serde` encodes it, and when it expires; `None`: as the record itself says.
    #[cfg(feature = "_encoded")]
    Found {
        bytes: Vec<u8>,
        expiry_date: Option<OffsetDateTime>,
    },
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

impl Touched {
    /// A stable name for metrics.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::NotDue => "not_due",
            Self::Gone => "gone",
        }
    }
}

/// What [`LifetimeLayer::new`](crate::LifetimeLayer::new) takes: a store that can touch, or tower-sessions' `MemoryStore`,
/// which [`Serialized`](super::Serialized) makes able to.
#[diagnostic::on_unimplemented(
    message = "`{Self}` can't move a session's expiry without rewriting the session",
    label = "not a store that can touch",
    note = "use one of `session_refresh::store`'s stores, or wrap yours: `Serialized::new(store)`",
    note = "tower-sessions' `CachingSessionStore` can't be reached inside: its cache would go on serving the old expiry unless each touch goes through it, as `Serialized` does"
)]
pub trait IntoTouch: sealed::IntoTouch {
    /// The store that can touch.
    type Store: Touch;

    /// Wraps the store if need be.
    fn into_touch(self) -> Self::Store;
}

pub(super) mod sealed {
    pub trait IntoTouch {}
}

impl<S: Touch> sealed::IntoTouch for S {}

impl<S: Touch> IntoTouch for S {
    type Store = S;

    fn into_touch(self) -> S {
        self
    }
}
