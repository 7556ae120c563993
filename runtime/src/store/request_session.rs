//! What one request knows of its session: a handle for the layers and extractors inside of tower-sessions' layer.
//!
//! It decides nothing. It loads ahead, touches, and says what the next save is for.

use std::{
    fmt,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use axum::BoxError;
use time::{Duration, OffsetDateTime};

use super::{
    attempt::{Attempts, TouchFailed},
    original::Original,
    release::{Record, RecordRef, SessionId, StoreError},
    touch::Touched,
};
use crate::{
    lifetime::Lifetime,
    schedule::{Extension, Millis},
    session::{Session, SessionError},
    spared_cookies::SparedCookies,
};

pub(crate) type Clock = Arc<dyn Fn() -> OffsetDateTime + Send + Sync>;

/// What holds for all requests of a layer.
#[derive(Clone, Default)]
pub(crate) struct Common {
    pub(crate) attempts: Attempts,
    pub(crate) clock: Option<Clock>,
    /// How many sessions this process has ended.
    ended: Arc<AtomicU64>,
}

impl Common {
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

impl fmt::Debug for Common {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Common")
            .field("attempts", &self.attempts)
            .field("clock", &self.clock.is_some())
            .finish_non_exhaustive()
    }
}

/// The application's store, its type forgotten.
pub(super) trait AnyStore: Send + Sync {
    fn load(&self, id: SessionId) -> BoxFuture<'_, Result<Option<LoadedRecord>, StoreError>>;

    fn touch(
        &self,
        id: SessionId,
        due_before: Millis,
        expiry: Millis,
    ) -> BoxFuture<'_, Result<Touched, BoxError>>;
}

pub(super) type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A record, and its data as the store has it.
pub(super) struct LoadedRecord {
    pub(super) record: Record,
    pub(super) original: Original,
}

/// What one request knows of its session. It lives as long as the session object, however long a socket holds that.
pub(crate) struct RequestSession {
    state: Mutex<State>,
    common: Arc<Common>,
    store: Arc<dyn AnyStore>,
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
    refreshed: Option<Refreshed>,
    next_save: NextSave,
    spared_cookies: Option<SparedCookies>,
}

/// What the store has, as far as this request and session object know.
struct KnownRecord {
    id: SessionId,
    expiry: Millis,
    original: Original,
}

/// A session that this request has refreshed.
struct Refreshed {
    id: SessionId,
    /// How many sessions of this process had ended by then.
    ended: u64,
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
pub(super) enum Save {
    /// The store has the data, and the request has extended the session.
    Nothing,
    /// The store has the data: its expiry is moved. If the application asks for this very end, a write does it where a touch
    /// can't.
    Touch { expiry: Millis, is_asked: bool },
    /// The data has changed, or the application shortens the session, which only a write can.
    Write { expiry: Millis },
}

/// What became of a refresh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TouchResult {
    Done,
    NotDue,
    Gone,
    /// The store failed, which was reported, or touches are paused since it has.
    Failed,
}

impl State {
    /// The end of a session that is saved now, and whether the application has given it another lifetime on this request.
    /// tower-sessions has dated it by the real time.
    fn end(&mut self, now: Millis, dated: OffsetDateTime) -> (Millis, bool) {
        let by_date = || Lifetime::Rolling(dated - OffsetDateTime::now_utc()).end(now);
        match (&self.session, self.lifetimes) {
            (Some(session), Some((before, _))) => {
                let lifetime = session.lifetime();
                (lifetime.end(now), lifetime != before)
            }
            // The handler has answered. A socket, or a layer between tower-sessions' and ours, may have set another since.
            (None, Some((before, lifetime))) => {
                let as_it_was = OffsetDateTime::from(lifetime.end(Millis::now()));
                if (dated - as_it_was).abs() < Duration::SECOND {
                    (lifetime.end(now), lifetime != before)
                } else {
                    (by_date(), true)
                }
            }
            // Saved by such a layer before the handler: its date is all that is known.
            (_, None) => (by_date(), false),
        }
    }

    fn known(&mut self, id: SessionId) -> Option<&mut KnownRecord> {
        self.known.as_mut().filter(|known| known.id == id)
    }

    fn refreshed(&self, session: &Session) -> Option<&Refreshed> {
        let refreshed = self.refreshed.as_ref()?;
        (session.id() == Some(refreshed.id.0)).then_some(refreshed)
    }
}

/// What tower-sessions' layer does to the session.
impl RequestSession {
    pub(super) fn new(common: Arc<Common>, store: Arc<dyn AnyStore>) -> Self {
        Self {
            state: Mutex::default(),
            common,
            store,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes over what was loaded ahead, be it that there is no record.
    #[allow(clippy::option_option)]
    pub(super) fn take_ahead(&self, id: SessionId) -> Option<Option<Record>> {
        let ahead = self.state().ahead.take();
        ahead
            .filter(|(ahead, _)| *ahead == id)
            .map(|(_, record)| record)
    }

    /// Remembers what was loaded. A record that has ended by the injected clock is none.
    pub(super) fn learn_load(&self, id: SessionId, loaded: Option<LoadedRecord>) -> Option<Record> {
        let live = loaded.filter(|loaded| !self.common.has_ended(loaded.record.expiry_date.into()));
        let Some(LoadedRecord { record, original }) = live else {
            self.forget(id);
            return None;
        };
        self.learn(id, record.expiry_date.into(), original);
        Some(record)
    }

    pub(super) fn learn(&self, id: SessionId, expiry: Millis, original: Original) {
        self.state().known = Some(KnownRecord {
            id,
            expiry,
            original,
        });
    }

    fn forget(&self, id: SessionId) {
        let mut state = self.state();
        state.known.take_if(|known| known.id == id);
        state.ahead.take_if(|(ahead, _)| *ahead == id);
        state.refreshed.take_if(|refreshed| refreshed.id == id);
    }

    pub(super) fn ended(&self, id: SessionId) {
        self.common.ended.fetch_add(1, Ordering::Relaxed);
        self.forget(id);
    }

    /// When a record that is created now will end. `None` if it is not to be created: its session was ended while its cookie
    /// was on the way, and a refresh never creates one.
    pub(super) fn create(&self, record: &Record) -> Option<Millis> {
        let mut state = self.state();
        let reason = std::mem::take(&mut state.next_save);
        let is_ghost = reason == NextSave::CookieOnly && record.data.is_empty();
        (!is_ghost).then(|| state.end(self.common.now(), record.expiry_date).0)
    }

    pub(super) fn save(&self, record: RecordRef<'_>) -> Save {
        let mut state = self.state();
        let (expiry, is_asked) = state.end(self.common.now(), record.expiry_date);
        let reason = std::mem::take(&mut state.next_save);
        match state.known(record.id) {
            Some(known) if self.common.has_ended(known.expiry) => Save::Nothing,
            Some(known) if known.original.is(record.data) => match reason {
                _ if is_asked && expiry < known.expiry => Save::Write { expiry },
                NextSave::Extended | NextSave::CookieOnly if !is_asked => Save::Nothing,
                _ => Save::Touch { expiry, is_asked },
            },
            _ => Save::Write { expiry },
        }
    }

    pub(super) async fn touch_record(
        &self,
        id: SessionId,
        due_before: Millis,
        expiry: Millis,
    ) -> Result<Touched, TouchFailed> {
        let touch = self.store.touch(id, due_before, expiry);
        let touched = self.common.attempts.touch(touch).await?;
        if touched == Touched::Done
            && let Some(known) = self.state().known(id)
        {
            known.expiry = expiry;
        }
        Ok(touched)
    }
}

/// What layers and extractors further in ask.
impl RequestSession {
    pub(crate) fn now(&self) -> Millis {
        self.common.now()
    }

    /// When the session ends; `None` if it is not there. Loads the record if nobody has yet.
    ///
    /// The record goes to the session, so that whoever reads it next shares this load. A session whose record is not
    /// there is left alone: tower-sessions removes the cookie of one that has looked in vain.
    pub(crate) async fn expiry(&self, session: &Session) -> Result<Option<Millis>, SessionError> {
        let Some(id) = session.id().map(SessionId) else {
            return Ok(None);
        };
        {
            let mut state = self.state();
            if let Some(known) = state.known(id) {
                let expiry = known.expiry;
                return Ok((!self.common.has_ended(expiry)).then_some(expiry));
            }
            if state.ahead == Some((id, None)) {
                return Ok(None);
            }
        }
        let record = self.learn_load(id, self.load(id).await?);
        let expiry = record.as_ref().map(|record| record.expiry_date.into());
        self.state().ahead = Some((id, record));
        if expiry.is_some() {
            // Now, so that a later `Session::load` is one of its own.
            session.get_value("").await?;
            self.state().ahead = None;
        }
        Ok(expiry)
    }

    /// Loads a record, within the limit of a touch.
    async fn load(&self, id: SessionId) -> Result<Option<LoadedRecord>, SessionError> {
        let loaded = self.common.attempts.in_time(self.store.load(id)).await;
        loaded
            .map_err(SessionError::new)?
            .map_err(SessionError::new)
    }

    /// Moves the session's end if it is still there and due.
    pub(crate) async fn touch(&self, session: &Session, extension: Extension) -> TouchResult {
        let Some(id) = session.id().map(SessionId) else {
            return TouchResult::Gone;
        };
        let known = self.state().known(id).map(|known| known.expiry);
        if known.is_some_and(|expiry| self.common.has_ended(expiry)) {
            return TouchResult::Gone;
        }
        let Extension { expiry, due_before } = extension;
        let ended = self.common.ended.load(Ordering::Relaxed);
        match self.touch_record(id, due_before, expiry).await {
            Ok(Touched::Done) => {
                let lifetime = session.lifetime();
                let mut state = self.state();
                state.refreshed = Some(Refreshed { id, ended });
                // What was set before the refresh is in force now.
                state.lifetimes = state.lifetimes.map(|_| (lifetime, lifetime));
                TouchResult::Done
            }
            Ok(Touched::NotDue) => TouchResult::NotDue,
            Ok(Touched::Gone) => TouchResult::Gone,
            Err(TouchFailed) => TouchResult::Failed,
        }
    }

    /// The handler is about to run.
    pub(crate) fn enter(&self, session: Session) {
        let lifetime = session.lifetime();
        let mut state = self.state();
        state.lifetimes = Some((lifetime, lifetime));
        state.session = Some(session);
    }

    /// The handler has answered, or was dropped: the session is let go, since it holds this.
    pub(crate) fn leave(&self) {
        let mut state = self.state();
        let session = state.session.take();
        if let (Some(session), Some((_, now))) = (session, &mut state.lifetimes) {
            *now = session.lifetime();
        }
    }

    /// Whether this request has refreshed the session.
    pub(crate) fn is_refreshed(&self, session: &Session) -> bool {
        self.state().refreshed(session).is_some()
    }

    /// Whether any session of this process has ended since this request has refreshed its own: that may be the one.
    pub(crate) fn any_has_ended(&self, session: &Session) -> bool {
        let ended = self.common.ended.load(Ordering::Relaxed);
        let state = self.state();
        (state.refreshed(session)).is_some_and(|refreshed| refreshed.ended != ended)
    }

    /// Whether the store still has the session. One that can't be asked in time may not have it.
    pub(crate) async fn is_live(&self, session: &Session) -> bool {
        let Some(id) = session.id().map(SessionId) else {
            return false;
        };
        matches!(self.load(id).await, Ok(Some(_)))
    }

    /// The handler has answered: the layer's save need not extend once more what this request has refreshed. Whether it has.
    pub(crate) fn settle(&self, session: &Session) -> bool {
        let mut state = self.state();
        let is_refreshed = state.refreshed(session).is_some();
        if is_refreshed {
            state.next_save = NextSave::Extended;
        }
        is_refreshed
    }

    /// Has tower-sessions send the cookie of a session that nobody has changed.
    pub(crate) fn send_cookie(&self, session: &Session) {
        self.state().next_save = NextSave::CookieOnly;
        session.send_cookie();
    }

    /// Keeps for the end of the request what the layer is not to remove.
    pub(crate) fn spare(&self, cookies: SparedCookies) {
        self.state().spared_cookies = Some(cookies);
    }

    /// The layer has done with the request. Whoever saves later asks for himself.
    pub(crate) fn finish(&self) -> Option<SparedCookies> {
        let mut state = self.state();
        state.next_save = NextSave::Asked;
        state.spared_cookies.take()
    }
}
