//! The application's store, and what one request knows of its session.
//!
//! Two sides see it: tower-sessions' layer as a store ([`RequestStore`]), and the layers and extractors further in as a
//! handle ([`RequestSession`]), which decides, touches, and says what the next save is for.

use std::{
    fmt,
    marker::PhantomData,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration as StdDuration,
};

use time::OffsetDateTime;

use super::{
    attempt::{Attempts, TouchFailed},
    original::Original,
    release::{OwnStore, Record, RecordRef, SessionId, StoreError, StoreOf, session_store},
    touch::{EncodedLoad, Touch, Touched},
};
use crate::{
    lifetime::Lifetime,
    schedule::{Extension, Millis},
    session::{Session, SessionError, for_each_release},
    spared_cookies::SparedCookies,
};

/// What [`LifetimeLayer`](crate::LifetimeLayer) hands to its closure: the application's store, for one request.
///
/// It is a `SessionStore` of release `R`, which follows from the layer that the closure makes. What tower-sessions saves
/// through it is written once, with the expiry that the session's lifetime gives, and not at all if the data is as it was
/// loaded: then the expiry alone is moved.
pub struct RequestStore<S, R> {
    request: Arc<RequestSession<Backend<S, R>>>,
}

impl<S, R> RequestStore<S, R> {
    /// For the next request.
    pub(crate) fn new(shared: Arc<Shared<S>>) -> Self {
        let backend = Backend {
            shared,
            release: PhantomData,
        };
        let request = RequestSession {
            state: Mutex::default(),
            backend,
        };
        Self {
            request: Arc::new(request),
        }
    }
}

impl<S: Touch + StoreOf<R>, R: 'static> RequestStore<S, R> {
    /// The same as a handle.
    pub(crate) fn handle(&self) -> Arc<RequestSession> {
        Arc::clone(&self.request) as Arc<RequestSession>
    }
}

/// The application's store, and what holds for all requests.
pub(crate) struct Shared<S> {
    store: S,
    attempts: Attempts,
    clock: Option<Clock>,
    ended: Arc<AtomicU64>,
}

impl<S: Clone> Clone for Shared<S> {
    fn clone(&self) -> Self {
        Self {
            store: self.store.clone(),
            attempts: self.attempts.clone(),
            clock: self.clock.clone(),
            ended: Arc::clone(&self.ended),
        }
    }
}

pub(crate) type Clock = Arc<dyn Fn() -> OffsetDateTime + Send + Sync>;

impl<S> Shared<S> {
    pub(crate) fn new(store: S) -> Self {
        Self {
            store,
            attempts: Attempts::default(),
            clock: None,
            ended: Arc::default(),
        }
    }

    pub(crate) fn set_touch_limit(&mut self, limit: StdDuration) {
        self.attempts.set_limit(limit);
    }

    pub(crate) fn set_clock(&mut self, clock: Clock) {
        self.clock = Some(clock);
    }

    pub(crate) fn failed_touches(&self) -> u64 {
        self.attempts.failures()
    }

    fn now(&self) -> Millis {
        self.clock
            .as_ref()
            .map_or_else(Millis::now, |clock| clock().into())
    }

    /// Whether a record has ended by the injected clock. By the real time, the store itself knows.
    fn has_ended(&self, expiry: Millis) -> bool {
        self.clock
            .as_ref()
            .is_some_and(|clock| expiry <= clock().into())
    }
}

/// The store behind a handle, its type forgotten.
pub(crate) struct Backend<S, R> {
    shared: Arc<Shared<S>>,
    release: PhantomData<fn() -> R>,
}

/// What a handle asks of the store.
pub(crate) trait AnyBackend: Send + Sync {
    fn now(&self) -> Millis;

    fn has_ended(&self, expiry: Millis) -> bool;

    /// How many sessions this process has ended.
    fn ended(&self) -> u64;

    /// Loads a record, within the limit of a touch.
    fn load(&self, id: SessionId) -> BoxFuture<'_, Result<Option<LoadedRecord>, SessionError>>;

    /// Whether the store has a record, as far as it says so within the limit of a touch.
    fn is_live(&self, id: SessionId) -> BoxFuture<'_, bool>;

    fn touch(
        &self,
        id: SessionId,
        due_before: Millis,
        expiry: Millis,
    ) -> BoxFuture<'_, Result<Touched, TouchFailed>>;
}

type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A record, and its data as the store has it.
pub(crate) struct LoadedRecord {
    record: Record,
    original: Original,
}

impl<S: Touch + StoreOf<R>, R: 'static> Backend<S, R> {
    async fn load(&self, id: SessionId) -> Result<Option<LoadedRecord>, StoreError> {
        let loaded = match self.shared.store.load_encoded(id).await? {
            EncodedLoad::Absent => None,
            #[cfg(feature = "_encoded")]
            EncodedLoad::Found { bytes, expiry_date } => {
                let mut record = super::encoded::decode(&bytes)
                    .map_err(|error| StoreError::Decode(error.to_string()))?;
                record.expiry_date = expiry_date.unwrap_or(record.expiry_date);
                let original = Original::Bytes(bytes);
                Some(LoadedRecord { record, original })
            }
            EncodedLoad::Unsupported => self.shared.store.load(id).await?.map(|record| {
                let original = Original::of(&record.data);
                LoadedRecord { record, original }
            }),
        };
        Ok(loaded.filter(|loaded| !self.shared.has_ended(loaded.record.expiry_date.into())))
    }

    async fn touch(
        &self,
        id: SessionId,
        due_before: Millis,
        expiry: Millis,
    ) -> Result<Touched, TouchFailed> {
        let touch = self
            .shared
            .store
            .touch(id, due_before.into(), expiry.into());
        self.shared.attempts.touch(touch).await
    }
}

impl<S: Touch + StoreOf<R>, R: 'static> AnyBackend for Backend<S, R> {
    fn now(&self) -> Millis {
        self.shared.now()
    }

    fn has_ended(&self, expiry: Millis) -> bool {
        self.shared.has_ended(expiry)
    }

    fn ended(&self) -> u64 {
        self.shared.ended.load(Ordering::Relaxed)
    }

    fn load(&self, id: SessionId) -> BoxFuture<'_, Result<Option<LoadedRecord>, SessionError>> {
        Box::pin(async move {
            let loaded = self.shared.attempts.in_time(self.load(id)).await;
            loaded
                .map_err(SessionError::new)?
                .map_err(SessionError::new)
        })
    }

    fn is_live(&self, id: SessionId) -> BoxFuture<'_, bool> {
        Box::pin(async move {
            let look = async {
                Ok::<_, StoreError>(match self.shared.store.load_encoded(id).await? {
                    EncodedLoad::Unsupported => self.shared.store.load(id).await?.is_some(),
                    EncodedLoad::Absent => false,
                    #[cfg(feature = "_encoded")]
                    EncodedLoad::Found { .. } => true,
                })
            };
            matches!(self.shared.attempts.in_time(look).await, Ok(Ok(true)))
        })
    }

    fn touch(
        &self,
        id: SessionId,
        due_before: Millis,
        expiry: Millis,
    ) -> BoxFuture<'_, Result<Touched, TouchFailed>> {
        Box::pin(self.touch(id, due_before, expiry))
    }
}

/// What one request knows of its session. It lives as long as the session object, however long a socket holds that.
pub(crate) struct RequestSession<B: ?Sized = dyn AnyBackend> {
    state: Mutex<State>,
    backend: B,
}

#[derive(Default)]
struct State {
    /// What the session's record is known to be.
    known: Option<KnownRecord>,
    /// A record that was loaded before the session asked for it, or that it is not there: the session's load takes it over.
    ahead: Option<(SessionId, Option<Record>)>,
    /// The session itself, until the handler has answered: it knows its own lifetime.
    session: Option<Session>,
    /// Its lifetime before the handler, and when the handler had answered.
    lifetimes: Option<(Lifetime, Lifetime)>,
    /// The session that this request has refreshed.
    refreshed: Option<Refreshed>,
    next_save: NextSave,
    spared_cookies: Option<SparedCookies>,
}

/// A session that this request has refreshed.
struct Refreshed {
    id: SessionId,
    /// How many sessions of this process had ended by then.
    ended: u64,
}

/// What the store has, as far as this request and session object know.
struct KnownRecord {
    id: SessionId,
    expiry: Millis,
    original: Original,
}

/// Why tower-sessions will save the session next.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum NextSave {
    /// Somebody wants it saved, and so extended.
    #[default]
    Asked,
    /// The layer saves at the end of a request that has extended the session already.
    Extended,
    /// The same, and nobody but this crate asked for it, to have the cookie sent.
    CookieOnly,
}

/// What a save comes to.
enum Save {
    /// The store has the data, and the request has extended the session.
    Nothing,
    /// The store has the data: its expiry is moved.
    Touch { expiry: Millis },
    /// The data has changed.
    Write { expiry: Millis },
}

impl State {
    fn enter(&mut self, session: Session) {
        let lifetime = session.lifetime();
        self.lifetimes = Some((lifetime, lifetime));
        self.session = Some(session);
    }

    /// What the session's lifetime was before the handler, and what it is now. `None` before our layer has seen it.
    fn lifetimes(&mut self) -> Option<(Lifetime, Lifetime)> {
        let (before, now) = self.lifetimes.as_mut()?;
        if let Some(session) = &self.session {
            *now = session.lifetime();
        }
        Some((*before, *now))
    }

    /// The end of a session that is saved now, which tower-sessions has dated by the real time.
    fn end(&mut self, now: Millis, dated: OffsetDateTime) -> Millis {
        match self.lifetimes() {
            Some((_, lifetime)) => lifetime.end(now),
            // Saved by a layer between tower-sessions' and ours: its date is all that is known.
            None => Lifetime::Rolling(dated - OffsetDateTime::now_utc()).end(now),
        }
    }

    /// Whether the application has given this session another lifetime on this request.
    fn has_new_lifetime(&mut self) -> bool {
        self.lifetimes().is_some_and(|(before, now)| before != now)
    }

    fn known(&self, id: SessionId) -> Option<&KnownRecord> {
        self.known.as_ref().filter(|known| known.id == id)
    }

    fn learn(&mut self, id: SessionId, expiry: Millis, original: Original) {
        self.known = Some(KnownRecord {
            id,
            expiry,
            original,
        });
    }

    fn extended(&mut self, id: SessionId, expiry: Millis) {
        if let Some(known) = self.known.as_mut().filter(|known| known.id == id) {
            known.expiry = expiry;
        }
    }

    fn refreshed(&self, session: &Session) -> Option<&Refreshed> {
        let id = session.id()?;
        self.refreshed
            .as_ref()
            .filter(|refreshed| refreshed.id.0 == id)
    }

    /// The session has ended, or was never there.
    fn forget(&mut self, id: SessionId) {
        self.known.take_if(|known| known.id == id);
        self.ahead.take_if(|(ahead, _)| *ahead == id);
        self.refreshed.take_if(|refreshed| refreshed.id == id);
    }
}

impl<B: AnyBackend + ?Sized> RequestSession<B> {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn learn(&self, loaded: LoadedRecord) -> Record {
        let LoadedRecord { record, original } = loaded;
        let expiry = record.expiry_date.into();
        self.state().learn(record.id, expiry, original);
        record
    }

    fn save(&self, record: RecordRef<'_>) -> Save {
        let mut state = self.state();
        let expiry = state.end(self.backend.now(), record.expiry_date);
        let has_new_lifetime = state.has_new_lifetime();
        let reason = std::mem::take(&mut state.next_save);
        match state.known(record.id) {
            Some(known) if self.backend.has_ended(known.expiry) => Save::Nothing,
            Some(known) if known.original.is(record.data) => match reason {
                // Only a write can shorten.
                _ if has_new_lifetime && expiry < known.expiry => Save::Write { expiry },
                NextSave::Extended | NextSave::CookieOnly if !has_new_lifetime => Save::Nothing,
                _ => Save::Touch { expiry },
            },
            _ => Save::Write { expiry },
        }
    }
}

impl RequestSession {
    pub(crate) fn now(&self) -> Millis {
        self.backend.now()
    }

    /// When the session ends; `None` if it is not there. Loads the record if nobody has yet.
    ///
    /// The record goes to the session, so that whoever reads it next shares this load. A session whose record is not
    /// there is left alone: tower-sessions removes the cookie of one that has looked in vain.
    pub(crate) async fn expiry(&self, session: &Session) -> Result<Option<Millis>, SessionError> {
        let Some(id) = session.id().map(SessionId) else {
            return Ok(None);
        };
        if let Some(known) = self.state().known(id) {
            let expiry = known.expiry;
            return Ok((!self.backend.has_ended(expiry)).then_some(expiry));
        }
        let loaded = self.backend.load(id).await?;
        let record = loaded.map(|loaded| self.learn(loaded));
        let expiry = record.as_ref().map(|record| record.expiry_date.into());
        self.state().ahead = Some((id, record));
        if expiry.is_some() {
            // Now, so that a later `Session::load` is one of its own.
            session.get_value("").await?;
            self.state().ahead = None;
        }
        Ok(expiry)
    }

    /// Moves the session's end if it is still there and due.
    pub(crate) async fn touch(&self, session: &Session, extension: Extension) -> TouchResult {
        let Some(id) = session.id().map(SessionId) else {
            return TouchResult::Gone;
        };
        let Extension { expiry, due_before } = extension;
        let has_ended = self
            .state()
            .known(id)
            .is_some_and(|known| self.backend.has_ended(known.expiry));
        if has_ended {
            return TouchResult::Gone;
        }
        let ended = self.backend.ended();
        match self.backend.touch(id, due_before, expiry).await {
            Ok(Touched::Done) => {
                let mut state = self.state();
                state.extended(id, expiry);
                state.refreshed = Some(Refreshed { id, ended });
                TouchResult::Done
            }
            Ok(Touched::NotDue) => TouchResult::NotDue,
            Ok(Touched::Gone) => TouchResult::Gone,
            Err(TouchFailed) => TouchResult::Failed,
        }
    }

    /// The handler is about to run.
    pub(crate) fn enter(&self, session: Session) {
        self.state().enter(session);
    }

    /// The handler has answered, or was dropped: the session is let go, since it holds this.
    pub(crate) fn leave(&self) {
        let mut state = self.state();
        state.lifetimes();
        state.session = None;
    }

    /// Whether this request has refreshed the session.
    pub(crate) fn is_refreshed(&self, session: &Session) -> bool {
        self.state().refreshed(session).is_some()
    }

    /// Whether any session of this process has ended since this request has refreshed its own: that may be the one.
    pub(crate) fn any_has_ended(&self, session: &Session) -> bool {
        let ended = self.backend.ended();
        let state = self.state();
        state
            .refreshed(session)
            .is_some_and(|refreshed| refreshed.ended != ended)
    }

    /// Whether the store still has the session. One that can't be asked may not have it.
    pub(crate) async fn is_live(&self, session: &Session) -> bool {
        match session.id().map(SessionId) {
            Some(id) => self.backend.is_live(id).await,
            None => false,
        }
    }

    /// The handler has answered: the layer's save need not extend once more what this request has refreshed.
    pub(crate) fn settle(&self, session: &Session) {
        let mut state = self.state();
        if state.refreshed(session).is_some() {
            state.next_save = NextSave::Extended;
        }
    }

    /// Keeps for the end of the request what the layer is not to remove.
    pub(crate) fn spare(&self, cookies: SparedCookies) {
        self.state().spared_cookies = Some(cookies);
    }

    pub(crate) fn spared_cookies(&self) -> Option<SparedCookies> {
        self.state().spared_cookies.take()
    }

    /// Has tower-sessions send the cookie of a session that nobody has changed.
    pub(crate) fn send_cookie(&self, session: &Session) {
        self.state().next_save = NextSave::CookieOnly;
        session.send_cookie();
    }
}

/// What became of a refresh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TouchResult {
    Done,
    NotDue,
    Gone,
    /// The store failed, and that was reported.
    Failed,
}

impl<S: Touch + StoreOf<R>, R: 'static> OwnStore<R> for RequestStore<S, R> {
    async fn create(&self, record: &mut Record) -> Result<(), StoreError> {
        let request = &*self.request;
        {
            let mut state = request.state();
            let reason = std::mem::take(&mut state.next_save);
            if reason == NextSave::CookieOnly && record.data.is_empty() {
                // The session was ended while its cookie was on the way, and a refresh never creates one.
                return Ok(());
            }
            record.expiry_date = state.end(request.backend.now(), record.expiry_date).into();
        }
        request.backend.shared.store.create(record).await?;
        let original = Original::of(&record.data);
        request
            .state()
            .learn(record.id, record.expiry_date.into(), original);
        Ok(())
    }

    async fn save(&self, record: RecordRef<'_>) -> Result<(), StoreError> {
        let id = record.id;
        let request = &*self.request;
        match request.save(record) {
            Save::Nothing => {}
            Save::Touch { expiry } => {
                // A failure is reported; a page that has changed no data does not fail for it.
                if let Ok(Touched::Done) = request.backend.touch(id, expiry, expiry).await {
                    request.state().extended(id, expiry);
                }
            }
            Save::Write { expiry } => {
                let record = Record {
                    expiry_date: expiry.into(),
                    ..record.to_owned()
                };
                let original = Original::of(&record.data);
                request.backend.shared.store.save(record).await?;
                request.state().learn(id, expiry, original);
            }
        }
        Ok(())
    }

    async fn load(&self, id: SessionId) -> Result<Option<Record>, StoreError> {
        let ahead = self.request.state().ahead.take();
        if let Some((_, record)) = ahead.filter(|(ahead, _)| *ahead == id) {
            return Ok(record);
        }
        let Some(loaded) = self.request.backend.load(id).await? else {
            self.request.state().forget(id);
            return Ok(None);
        };
        Ok(Some(self.request.learn(loaded)))
    }

    async fn delete(&self, id: SessionId) -> Result<(), StoreError> {
        let shared = &self.request.backend.shared;
        shared.store.delete(id).await?;
        shared.ended.fetch_add(1, Ordering::Relaxed);
        self.request.state().forget(id);
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
            request: Arc::clone(&self.request),
        }
    }
}

/// Says nothing of the session: its id is a secret, and so may be its data.
impl<S: fmt::Debug, R> fmt::Debug for RequestStore<S, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.request.backend.shared.fmt(f)
    }
}

impl<S: fmt::Debug> fmt::Debug for Shared<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store")
            .field("store", &self.store)
            .field("attempts", &self.attempts)
            .field("clock", &self.clock.is_some())
            .finish_non_exhaustive()
    }
}
