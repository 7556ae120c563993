//! What a store must be able to do for a refresh, beside what tower-sessions asks of it.

use std::ops::RangeInclusive;

use axum::BoxError;
use serde_json::Value;
use time::OffsetDateTime;

use super::release::{Record, SessionId, StoreError, StoreOf};
use crate::schedule::Millis;

/// A session store that can move a record's expiry without rewriting the record.
///
/// tower-sessions' own `SessionStore` can only save whole records, the last one wins. What a touch needs instead has to
/// happen in the store itself, in one step, so it is a trait of its own, the same for every release of tower-sessions. A
/// store that implements both promises:
///
/// - [`touch`](Self::touch) is atomic, and does nothing unless the record is live and its expiry is within `due` and before
///   `expiry`: it never creates, shortens or revives, and a session that somebody has shortened meanwhile stays so.
/// - `SessionStore::load` reports the record's true expiry, a touch's included, to the millisecond.
/// - `SessionStore::create` is implemented, since the default one calls `save`, which creates nothing here. Where the record's
///   id is taken, it gives the record another one, as tower-sessions asks.
/// - `SessionStore::save` updates a live record, its expiry included, and does nothing for one that is gone: it answers `Ok`.
///   So does `SessionStore::delete`.
/// - A record is gone when its expiry has passed.
///
/// The feature `conformance` has [a suite](super::conformance) that holds a store to this. [A worked
/// example](crate::guide::own_table) has its sessions in an application's own table.
///
/// Under [`with_max_lifetime`](crate::LifetimeLayer::with_max_lifetime), the first refresh of a session that is from before
/// the limit has to write down what that counts from. This crate's stores do that without touching anything else; in others
/// the record is loaded and saved for it, once in such a session's life, and another request's write between the two is lost.
/// Likewise the save of a passive route, in others, writes the expiry that it has loaded: an extension meanwhile is taken back.
#[diagnostic::on_unimplemented(
    message = "`{Self}` can't move a session's expiry without rewriting the session",
    label = "not a store that can touch",
    note = "use one of `session_refresh::store`'s stores, or wrap yours: `Serialized::new(store)`",
    note = "tower-sessions' `CachingSessionStore` can't be reached inside: its cache would go on serving the old expiry unless each touch goes through it, as `Serialized` does"
)]
pub trait Touch: Send + Sync + 'static {
    /// Moves the expiry of a live record to `expiry` if it is within `due` and before `expiry`.
    ///
    /// `due` begins a second before the expiry that the request has seen, since a store may round. A record that expires
    /// earlier than that has been given another lifetime meanwhile: the answer is [`Touched::Shortened`].
    ///
    /// # Errors
    /// If the store can't be reached or refuses.
    fn touch(
        &self,
        id: SessionId,
        due: RangeInclusive<OffsetDateTime>,
        expiry: OffsetDateTime,
    ) -> impl Future<Output = Result<Touched, BoxError>> + Send;

    /// The latest expiry that the store can keep: no session is made to last longer. Default: the end of the year 9999.
    fn latest_expiry(&self) -> OffsetDateTime {
        Millis::LATEST.into()
    }

    /// Learns that a `LifetimeLayer` uses it.
    #[doc(hidden)]
    fn is_in_lifetime_layer(&self) {}

    /// Loads a live record as the bytes that it is kept in. Only this crate's stores know how.
    #[doc(hidden)]
    fn load_encoded(
        &self,
        _: SessionId,
    ) -> impl Future<Output = Result<EncodedLoad, StoreError>> + Send {
        std::future::ready(Ok(EncodedLoad::Unsupported))
    }

    /// Does a [`FirstTouch`]. `None` if the store does not know how: then the record is loaded and saved.
    #[doc(hidden)]
    fn touch_first(
        &self,
        _: FirstTouch,
    ) -> impl Future<Output = Result<Option<Touched>, BoxError>> + Send {
        std::future::ready(Ok(None))
    }

    /// Saves a live record, and leaves its expiry where it is if that is later: somebody has extended it meanwhile. `None` if
    /// the store does not know how: then the record is saved as it is.
    #[doc(hidden)]
    fn save_passively(
        &self,
        _: &Record,
    ) -> impl Future<Output = Result<Option<()>, StoreError>> + Send {
        std::future::ready(Ok(None))
    }
}

/// Moves a live record's expiry, be it back, and changes an entry of its data; nothing if somebody else has changed that
/// entry.
///
/// Once in the life of a session that is from before its absolute limit: the record has to say since when that counts.
#[doc(hidden)]
#[derive(Clone, Debug)]
pub struct FirstTouch {
    pub id: SessionId,
    pub key: &'static str,
    pub was: Option<String>,
    pub text: String,
    pub expiry: OffsetDateTime,
}

impl FirstTouch {
    /// Changes a live record. `Err` if somebody was faster.
    pub(super) fn apply(&self, record: &mut Record) -> Result<(), Touched> {
        let found = record.data.get(self.key).and_then(Value::as_str);
        if found != self.was.as_deref() {
            return Err(Touched::NotDue);
        }
        let text = Value::String(self.text.clone());
        record.data.insert(self.key.to_owned(), text);
        record.expiry_date = self.expiry;
        Ok(())
    }
}

/// A [`FirstTouch`] for a store that has none of its own. `Serialized` sees to it that nobody writes meanwhile; other stores
/// do not.
pub(super) async fn touch_first<R>(
    store: &impl StoreOf<R>,
    touch: &FirstTouch,
) -> Result<Touched, StoreError> {
    let Some(mut record) = store.load(touch.id).await? else {
        return Ok(Touched::Gone);
    };
    if let Err(touched) = touch.apply(&mut record) {
        return Ok(touched);
    }
    store.save(record).await?;
    Ok(Touched::Done)
}

/// How often a write is tried again that a racing one has made fail.
#[cfg(feature = "_stores")]
pub(super) const TRIES: usize = 10;

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
#[non_exhaustive]
pub enum Touched {
    /// The record now expires at the time given.
    Done,
    /// The record expires late enough.
    NotDue,
    /// There is no live record with this id.
    Gone,
    /// Somebody else is writing the record, or has it locked, and the store has not waited: nothing was done.
    Busy,
    /// The record expires before `due` begins, and so earlier than it did: somebody has given it another lifetime. Nothing was
    /// done.
    Shortened,
}

impl Touched {
    /// A stable name for metrics.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::NotDue => "not_due",
            Self::Gone => "gone",
            Self::Busy => "busy",
            Self::Shortened => "shortened",
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
pub trait IntoTouch<Way>: sealed::IntoTouch<Way> {
    /// The store that can touch.
    type Store: Touch;

    /// Wraps the store if need be.
    fn into_touch(self) -> Self::Store;
}

/// What is made able to touch.
pub trait Wrap {
    type Touching: Touch;

    fn wrap(self) -> Self::Touching;
}

mod sealed {
    pub trait IntoTouch<Way> {}

    // Two ways that are open to each type: of a store that goes neither, the compiler knows no `IntoTouch::Store`, so it has
    // one error to tell, and not one more for each use of that.

    #[derive(Debug)]
    pub enum AsItIs {}

    #[derive(Debug)]
    pub enum Wrapped {}
}

impl<S: Touch> sealed::IntoTouch<sealed::AsItIs> for S {}

impl<S: Touch> IntoTouch<sealed::AsItIs> for S {
    type Store = S;

    fn into_touch(self) -> S {
        self
    }
}

impl<S: Wrap> sealed::IntoTouch<sealed::Wrapped> for S {}

impl<S: Wrap> IntoTouch<sealed::Wrapped> for S {
    type Store = S::Touching;

    fn into_touch(self) -> S::Touching {
        self.wrap()
    }
}
