//! What one request knows of its session: a handle for the layers and extractors inside of tower-sessions' layer.
//!
//! It decides nothing. It loads ahead, touches, and says what the next save is for.

use std::{
    fmt,
    ops::RangeInclusive,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use time::{Duration, OffsetDateTime};

use super::{
    attempt::{Attempts, TouchFailed, Work},
    original::Original,
    release::{Record, RecordRef, SessionId, StoreError},
    touch::{FirstTouch, Touched},
};
use crate::{
    lifetime::{Expiry, KEY, Lifetime, OwnLifetime, Settings},
    outcome::RefreshInfo,
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
    pub(crate) settings: Settings,
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
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

/// The application's store, its type forgotten.
pub(super) trait ErasedStore: Send + Sync {
    fn load(&self, id: SessionId) -> BoxFuture<'_, Result<Option<LoadedRecord>, StoreError>>;

    /// By itself: it may take longer than anybody waits.
    fn touch(self: Arc<Self>, id: SessionId, due: RangeInclusive<Millis>, expiry: Millis) -> Work;

    /// The same.
    fn touch_first(self: Arc<Self>, touch: FirstTouch) -> Work;
}

pub(super) type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A record without the entry of its own lifetime, that, and the data as the store has it.
pub(super) struct LoadedRecord {
    pub(super) record: Record,
    pub(super) kept: OwnLifetime,
    pub(super) original: Original,
}

/// What one request knows of its session. It lives as long as the session object, however long a socket holds that.
pub(crate) struct RequestSession {
    state: Mutex<State>,
    common: Arc<Common>,
    store: Arc<dyn ErasedStore>,
}

#[derive(Default)]
#[allow(
    clippy::option_option,
    reason = "a layer's expiry may be none, and may be unknown yet"
)]
struct State {
    /// What the session's record is known to be.
    known: Option<KnownRecord>,
    /// A record that was loaded before the session asked for it, or that it is not there: the session's load takes it over.
    ahead: Option<(SessionId, Option<Record>)>,
    /// The session itself, until tower-sessions' layer has done with it.
    session: Option<Session>,
    /// The expiry that tower-sessions' layer gives, once it has made the session.
    layer: Option<Option<Expiry>>,
    /// The session's expiry when it was last looked at. If it is another one now, the application has set it.
    seen: Option<Expiry>,
    /// The session's own lifetime: as it was loaded or written, and since when it counts if the record does not say.
    own: OwnLifetime,
    /// What the application has said since.
    said: Said,
    /// When the session would have ended whose id is being renewed.
    renewed: Option<Millis>,
    /// The request is no activity: what it writes extends nothing.
    is_passive: bool,
    /// What became of it, once that is decided.
    info: Option<RefreshInfo>,
    refreshed: Option<Refreshed>,
    next_save: NextSave,
    spared_cookies: Option<SparedCookies>,
}

/// What the store has, as far as this request and session object know.
struct KnownRecord {
    id: SessionId,
    expiry: Millis,
    kept: OwnLifetime,
    original: Original,
}

/// What the application has said of the session's lifetime, and the store does not have yet.
#[derive(Default)]
#[allow(clippy::option_option, reason = "the application may say `None`")]
struct Said {
    /// `Some(None)`: the layer's.
    expiry: Option<Option<Expiry>>,
    started: Option<Millis>,
    max_lifetime: Option<Option<Duration>>,
}

/// A session that this request has refreshed.
struct Refreshed {
    id: SessionId,
    at: Millis,
    /// How many sessions of this process had ended by then.
    ended: u64,
}

/// A store may keep an expiry no finer than this.
const FINEST: Duration = Duration::SECOND;

/// A handler that answers so soon after the refresh leaves no time to log out and in again.
const JUST_NOW: Duration = Duration::milliseconds(500);

/// Why tower-sessions will save the session next.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum NextSave {
    /// Somebody wants it saved, and so extended.
    #[default]
    Asked,
    /// The layer saves at the end of the request.
    AtEnd,
    /// The same, of a request that has extended the session already.
    Extended,
    /// The same, and nobody but this crate asked for it, to have the cookie sent.
    CookieOnly,
}

/// What a save comes to.
pub(super) enum Save {
    /// The store has the data, and the session is not to be extended, or has been.
    Nothing,
    /// The store has the data: its expiry is moved from where the request has seen it.
    Touch { seen: Millis, expiry: Millis },
    /// The data has changed, or what the session keeps of its lifetime.
    Write {
        expiry: Millis,
        kept: OwnLifetime,
        /// The request is no activity: what others extend meanwhile stays so.
        is_passive: bool,
    },
}

/// What became of a refresh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TouchResult {
    Done,
    NotDue,
    Busy,
    Shortened,
    Gone,
    /// The store failed, which was reported, or touches are paused since it has.
    Failed,
}

/// A session's record, and how long it lives.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LiveSession {
    pub(crate) expiry: Millis,
    pub(crate) lifetime: Lifetime,
    /// Whether its record says what its absolute limit counts from, if it has one.
    pub(crate) is_counted: bool,
}

/// What is known of a request whose handler has answered.
pub(crate) struct Handled {
    pub(crate) is_refreshed: bool,
    /// The application has said something of the absolute limit that is not written yet.
    pub(crate) has_said: bool,
}

/// What is known of it before the layer saves.
pub(crate) struct Settled {
    pub(crate) is_refreshed: bool,
    /// The session's record, which is there, has to keep another lifetime than it does.
    pub(crate) keeps_another: bool,
}

impl State {
    /// Notices what the application has set since the session was last looked at.
    fn notice(&mut self, expiry: Option<Expiry>) {
        if let Some(layer) = self.layer
            && expiry != self.seen
        {
            self.said.expiry = Some(expiry.filter(|_| expiry != layer));
            self.seen = expiry;
        }
    }

    /// The same for a session that is being saved, which tower-sessions has dated by the real time.
    fn notice_saved(&mut self, now: Millis, dated: OffsetDateTime) {
        if let Some(session) = &self.session {
            self.notice(session.expiry());
            return;
        }
        // The layer has done with the session, but somebody has kept it. If he has set another lifetime, all that is known
        // is when it ends: a fixed end then, since that is never later than what was meant.
        let real_now = Millis::now();
        let as_seen = Expiry::date(self.seen, real_now);
        let dated = Millis::from(dated);
        if as_seen.since(dated).max(dated.since(as_seen)) >= Duration::SECOND {
            let end = now.saturating_add(dated.since(real_now));
            self.notice(Some(Expiry::AtDateTime(end)));
            self.seen = Some(Expiry::AtDateTime(dated));
        }
    }

    /// The session's own lifetime, as its record is to keep it.
    fn own(&self) -> OwnLifetime {
        let Said {
            expiry,
            started,
            max_lifetime,
        } = self.said;
        OwnLifetime {
            expiry: expiry.unwrap_or(self.own.expiry),
            started: started.or(self.own.started),
            max_lifetime: max_lifetime.unwrap_or(self.own.max_lifetime),
        }
    }

    fn lifetime(&self, settings: &Settings) -> Lifetime {
        Lifetime::new(self.layer.flatten(), &self.own(), settings)
    }

    /// Has an absolute limit count from `now` if nothing else is known.
    fn count_from(&mut self, now: Millis, settings: &Settings) {
        let own = self.own();
        if own.started.is_none() && own.max_lifetime(settings).is_some() {
            self.own.started = Some(now);
        }
    }

    /// When a session ends that is saved now.
    fn end(&self, now: Millis, dated: OffsetDateTime, settings: &Settings) -> Millis {
        if self.layer.is_some() || self.own().expiry.is_some() {
            return self.lifetime(settings).end_at(now);
        }
        // Saved by a layer between tower-sessions' and ours, before the request has come here: of a session without a lifetime of
        // its own, its date is all that is known.
        let left = Millis::from(dated).since(Millis::now());
        let end = now.saturating_add(left);
        self.own.end(settings).map_or(end, |limit| limit.min(end))
    }

    /// The end that a session has, if no limit is earlier.
    fn kept_end(&self, expiry: Millis, settings: &Settings) -> Millis {
        let limit = self.own().end(settings);
        limit.map_or(expiry, |limit| limit.min(expiry))
    }

    /// Whether the application wants the record to keep another lifetime than it does.
    fn keeps_another(&self, known: &KnownRecord) -> bool {
        let mut kept = known.kept;
        if kept.started.is_none() && self.said.started.is_none() {
            // Nobody's wish: a session from before the limit. The next touch records it.
            kept.started = self.own.started;
        }
        self.own() != kept
    }

    /// Has the cookie that is about to be sent live as long as the session does.
    fn date_cookie(&mut self, now: Millis, settings: &Settings) {
        let Some(session) = &self.session else { return };
        let cookie = self.lifetime(settings).cookie(now);
        let is_so = match session.expiry() {
            None => cookie == Expiry::OnSessionEnd,
            Some(expiry) => cookie == expiry,
        };
        if !is_so {
            session.set_expiry(cookie);
            self.seen = Some(cookie);
        }
    }

    fn known(&self, id: SessionId) -> Option<&KnownRecord> {
        self.known.as_ref().filter(|known| known.id == id)
    }

    fn known_mut(&mut self, id: SessionId) -> Option<&mut KnownRecord> {
        self.known.as_mut().filter(|known| known.id == id)
    }

    fn refreshed(&self, session: &Session) -> Option<&Refreshed> {
        let refreshed = self.refreshed.as_ref()?;
        (session.id() == Some(refreshed.id.0)).then_some(refreshed)
    }
}

/// What tower-sessions' layer does to the session.
impl RequestSession {
    pub(super) fn new(common: Arc<Common>, store: Arc<dyn ErasedStore>) -> Self {
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

    /// Remembers what was loaded. A record that has ended by the injected clock is none, nor is one past its end.
    pub(super) fn learn_load(&self, id: SessionId, loaded: Option<LoadedRecord>) -> Option<Record> {
        let live = loaded.and_then(|loaded| self.live(&loaded).map(|expiry| (loaded, expiry)));
        let Some((loaded, expiry)) = live else {
            self.forget(id);
            // What is created next is another session.
            self.state().own = OwnLifetime::default();
            return None;
        };
        let LoadedRecord {
            record,
            kept,
            original,
        } = loaded;
        let mut state = self.state();
        state.known = Some(KnownRecord {
            id,
            expiry,
            kept,
            original,
        });
        state.own = kept;
        state.count_from(self.common.now(), &self.common.settings);
        Some(record)
    }

    /// When a loaded record ends; `None` if it has ended.
    fn live(&self, loaded: &LoadedRecord) -> Option<Millis> {
        let expiry = Millis::from(loaded.record.expiry_date);
        let now = self.common.now();
        let end = loaded.kept.end(&self.common.settings);
        let is_over = self.common.has_ended(expiry) || end.is_some_and(|end| end <= now);
        (!is_over).then(|| end.map_or(expiry, |end| end.min(expiry)))
    }

    /// Remembers what was written.
    pub(super) fn learn_write(&self, id: SessionId, written: Written) {
        let Written {
            expiry,
            kept,
            original,
        } = written;
        let mut state = self.state();
        state.known = Some(KnownRecord {
            id,
            expiry,
            kept,
            original,
        });
        state.own = kept;
        state.said = Said::default();
        state.renewed = None;
    }

    /// Whether anything is known of the record, as after a load.
    pub(super) fn knows(&self, id: SessionId) -> bool {
        self.state().known(id).is_some()
    }

    fn forget(&self, id: SessionId) {
        let mut state = self.state();
        state.known.take_if(|known| known.id == id);
        state.ahead.take_if(|(ahead, _)| *ahead == id);
        state.refreshed.take_if(|refreshed| refreshed.id == id);
    }

    pub(super) fn ended(&self, id: SessionId) {
        self.common.ended.fetch_add(1, Ordering::Relaxed);
        {
            let mut state = self.state();
            // `cycle_id` takes the id from the session before it deletes the record, `flush` after.
            let renews = (state.session.as_ref()).is_some_and(|session| session.id().is_none());
            if renews {
                state.renewed = state.known(id).map(|known| known.expiry);
            } else {
                state.own = OwnLifetime::default();
                state.said = Said::default();
            }
        }
        self.forget(id);
    }

    /// When a record that is created now will end, and what it is to keep. `None` if it is not to be created: its session was
    /// ended while its cookie was on the way, and a refresh never creates one.
    pub(super) fn create(&self, record: &Record) -> Option<(Millis, OwnLifetime)> {
        let (now, settings) = (self.common.now(), &self.common.settings);
        let mut state = self.state();
        let reason = std::mem::take(&mut state.next_save);
        state.notice_saved(now, record.expiry_date);
        if reason == NextSave::CookieOnly && record.data.is_empty() {
            return None;
        }
        state.count_from(now, settings);
        let end = state.end(now, record.expiry_date, settings);
        let expiry = match state.renewed {
            Some(expiry) if state.is_passive && state.said.expiry.is_none() => {
                state.kept_end(expiry, settings)
            }
            _ => end,
        };
        if reason != NextSave::Asked {
            state.date_cookie(now, settings);
        }
        Some((expiry, state.own()))
    }

    /// Notices what the application has set, of a session that is about to be saved, and that tower-sessions has just dated.
    pub(super) fn notice_saved(&self, dated: OffsetDateTime) {
        let now = self.common.now();
        self.state().notice_saved(now, dated);
    }

    /// Why tower-sessions saves the session. What comes after that is asked for, until somebody says otherwise.
    pub(super) fn take_reason(&self) -> NextSave {
        std::mem::take(&mut self.state().next_save)
    }

    pub(super) fn save(&self, record: RecordRef<'_>, reason: NextSave) -> Save {
        let (now, settings) = (self.common.now(), &self.common.settings);
        let mut state = self.state();
        if reason != NextSave::Asked {
            state.date_cookie(now, settings);
        }
        let end = state.end(now, record.expiry_date, settings);
        let kept = state.own();
        let state = &*state;
        let Some(known) = state.known(record.id) else {
            return Save::Nothing;
        };
        let limit = known.kept.end(settings);
        if self.common.has_ended(known.expiry) || limit.is_some_and(|limit| limit <= now) {
            return Save::Nothing;
        }
        let has_same_expiry = kept.expiry == known.kept.expiry;
        let is_passive = state.is_passive && has_same_expiry;
        let expiry = if is_passive {
            state.kept_end(known.expiry, settings)
        } else {
            end
        };
        if state.keeps_another(known) || !known.original.is(record.data) {
            return Save::Write {
                expiry,
                kept,
                is_passive,
            };
        }
        match reason {
            _ if state.is_passive => Save::Nothing,
            // It was set to what it is. That changes nothing, so it extends nothing.
            NextSave::AtEnd if state.said.expiry.is_some() => Save::Nothing,
            NextSave::Extended | NextSave::CookieOnly => Save::Nothing,
            NextSave::Asked | NextSave::AtEnd => Save::Touch {
                seen: known.expiry,
                expiry,
            },
        }
    }

    /// Extends a session, unless it ends earlier by now than it was `seen` to: then somebody has said how long it is to live.
    pub(super) async fn touch_record(
        &self,
        id: SessionId,
        seen: Millis,
        extension: Extension,
    ) -> Result<Touched, TouchFailed> {
        let attempts = &self.common.attempts;
        let from = seen.saturating_sub(FINEST);
        // Loaded once more by somebody else in this request.
        if (self.state().known(id)).is_some_and(|known| known.expiry < from) {
            return Ok(Touched::Shortened);
        }
        if let Some(Counted {
            expiry,
            kept,
            touch,
        }) = self.first_touch(id, extension.expiry)
        {
            let first = Arc::clone(&self.store).touch_first(touch);
            // That it was not done tells nothing of when the session ends.
            let to = Extension {
                expiry,
                due_before: Millis::clamp(i64::MIN),
            };
            match attempts.touch(id, to, first).await? {
                Touched::NotDue => {} // Somebody else has recorded it, or has given the session another lifetime.
                touched => return Ok(self.learn_touch(id, touched, expiry, Some(kept))),
            }
        }
        let Extension { expiry, due_before } = extension;
        let due = from.min(due_before)..=due_before;
        let touch = Arc::clone(&self.store).touch(id, due, expiry);
        let touched = attempts.touch(id, extension, touch).await?;
        Ok(self.learn_touch(id, touched, expiry, None))
    }

    /// Remembers what a touch has done.
    fn learn_touch(
        &self,
        id: SessionId,
        touched: Touched,
        expiry: Millis,
        kept: Option<OwnLifetime>,
    ) -> Touched {
        if touched == Touched::Done
            && let Some(known) = self.state().known_mut(id)
        {
            known.expiry = expiry;
            known.kept = kept.unwrap_or(known.kept);
        }
        touched
    }

    /// A touch that records as well since when the session's absolute limit counts, if its record does not say.
    fn first_touch(&self, id: SessionId, expiry: Millis) -> Option<Counted> {
        let state = self.state();
        let known = state.known(id)?;
        let kept = OwnLifetime {
            started: Some(state.own.started?),
            ..known.kept
        };
        if known.kept.started.is_some() {
            return None;
        }
        // Never earlier than it is, but for the limit.
        let expiry = expiry.max(state.kept_end(known.expiry, &self.common.settings));
        let touch = FirstTouch {
            id,
            key: KEY,
            was: known.kept.to_text(),
            text: kept.to_text()?,
            expiry: expiry.into(),
        };
        Some(Counted {
            expiry,
            kept,
            touch,
        })
    }
}

/// A touch that records since when a session's absolute limit counts, and what the record says then.
struct Counted {
    expiry: Millis,
    kept: OwnLifetime,
    touch: FirstTouch,
}

/// A record as it was written.
pub(super) struct Written {
    pub(super) expiry: Millis,
    pub(super) kept: OwnLifetime,
    pub(super) original: Original,
}

/// What layers and extractors further in ask.
impl RequestSession {
    pub(crate) fn now(&self) -> Millis {
        self.common.now()
    }

    /// The session's record; `None` if it is not there. Loads the record if nobody has yet.
    ///
    /// The record goes to the session, so that whoever reads it next shares this load. A session whose record is not
    /// there is left alone: tower-sessions removes the cookie of one that has looked in vain.
    pub(crate) async fn find(
        &self,
        session: &Session,
    ) -> Result<Option<LiveSession>, SessionError> {
        let Some(id) = session.id().map(SessionId) else {
            return Ok(None);
        };
        if let Some(found) = self.look_up(id, session) {
            return Ok(found);
        }
        let record = self.learn_load(id, self.load(id).await?);
        let is_there = record.is_some();
        self.state().ahead = Some((id, record));
        if is_there {
            // Now, so that a later `Session::load` is one of its own.
            session.get_value("").await?;
            self.state().ahead = None;
        }
        Ok(self.look_up(id, session).flatten())
    }

    /// How long sessions live that have no lifetime of their own, and their absolute limit.
    pub(crate) fn usual_lifetime(&self) -> (Lifetime, Option<Duration>) {
        let settings = &self.common.settings;
        let layer = self.state().layer.flatten();
        let usual = Lifetime::new(layer, &OwnLifetime::default(), settings);
        (usual, settings.max_lifetime)
    }

    /// What is known without a load; `None` if nothing is.
    #[allow(clippy::option_option)]
    fn look_up(&self, id: SessionId, session: &Session) -> Option<Option<LiveSession>> {
        let mut state = self.state();
        // An expiry costs a lock and a conversion: only where it is used.
        if state.known(id).is_some() {
            state.notice(session.expiry());
        }
        if let Some(known) = state.known(id) {
            let lifetime = state.lifetime(&self.common.settings);
            let end = lifetime
                .end
                .map_or(known.expiry, |end| end.min(known.expiry));
            let is_over =
                self.common.has_ended(end) || lifetime.end.is_some_and(|end| end <= self.now());
            let is_counted = known.kept.started.is_some() || state.own.started.is_none();
            return Some((!is_over).then_some(LiveSession {
                expiry: end,
                lifetime,
                is_counted,
            }));
        }
        (state.ahead == Some((id, None))).then_some(None)
    }

    /// Whether the session's record was there when it was last loaded or written.
    pub(crate) fn knows_of(&self, session: &Session) -> bool {
        (session.id()).is_some_and(|id| self.knows(SessionId(id)))
    }

    /// Looks into the store once more, since others may have extended the session, or set another lifetime.
    ///
    /// The session keeps its data, and what that is compared with when it is saved.
    pub(crate) async fn look_again(&self, id: SessionId) -> Result<(), SessionError> {
        let loaded = self.load(id).await?;
        let live = loaded.and_then(|loaded| self.live(&loaded).map(|expiry| (loaded.kept, expiry)));
        let Some((kept, expiry)) = live else {
            self.forget(id);
            self.state().ahead = Some((id, None));
            return Ok(());
        };
        let mut state = self.state();
        if let Some(known) = state.known_mut(id) {
            known.expiry = expiry;
            let was = std::mem::replace(&mut known.kept, kept);
            state.own = kept;
            // What was set to what it was is no wish to have it back.
            let Said {
                expiry,
                max_lifetime,
                ..
            } = &mut state.said;
            expiry.take_if(|said| *said == was.expiry);
            max_lifetime.take_if(|said| *said == was.max_lifetime);
            state.count_from(self.common.now(), &self.common.settings);
        }
        Ok(())
    }

    /// Loads a record, within the limit of a touch.
    async fn load(&self, id: SessionId) -> Result<Option<LoadedRecord>, SessionError> {
        let loaded = self.common.attempts.in_time(self.store.load(id)).await;
        loaded
            .map_err(|error| SessionError::of(id.0, error))?
            .map_err(|error| SessionError::of(id.0, error))
    }

    /// Moves the session's end if it is still there and due.
    pub(crate) async fn touch(
        &self,
        session: &Session,
        seen: Millis,
        extension: Extension,
    ) -> TouchResult {
        let Some(id) = session.id().map(SessionId) else {
            return TouchResult::Gone;
        };
        let known = self.state().known(id).map(|known| known.expiry);
        if known.is_some_and(|expiry| self.common.has_ended(expiry)) {
            return TouchResult::Gone;
        }
        let ended = self.common.ended.load(Ordering::Relaxed);
        match self.touch_record(id, seen, extension).await {
            Ok(Touched::Done) => {
                let at = self.common.now();
                self.state().refreshed = Some(Refreshed { id, at, ended });
                TouchResult::Done
            }
            Ok(Touched::NotDue) => TouchResult::NotDue,
            Ok(Touched::Gone) => TouchResult::Gone,
            Ok(Touched::Busy) => TouchResult::Busy,
            Ok(Touched::Shortened) => TouchResult::Shortened,
            Err(TouchFailed) => TouchResult::Failed,
        }
    }

    /// Whether this request is no activity. Of several policies, the last one to ask decides.
    pub(crate) fn set_passive(&self, is_passive: bool) {
        self.state().is_passive = is_passive;
    }

    pub(crate) fn set_info(&self, info: Option<RefreshInfo>) {
        self.state().info = info;
    }

    pub(crate) fn info(&self) -> Option<RefreshInfo> {
        self.state().info.clone()
    }

    /// The absolute limit counts from now.
    pub(crate) fn restart(&self) {
        let now = self.common.now();
        self.state().said.started = Some(now);
    }

    /// Gives the session an absolute limit of its own.
    pub(crate) fn set_max_lifetime(&self, max_lifetime: Option<Duration>) {
        let mut state = self.state();
        state.said.max_lifetime = Some(max_lifetime);
        state.count_from(self.common.now(), &self.common.settings);
    }

    /// The handler is about to run, or something between it and tower-sessions' layer.
    pub(crate) fn enter(&self, session: Session) {
        let mut state = self.state();
        if state.layer.is_none() {
            state.seen = session.expiry();
            state.layer = Some(state.seen);
        }
        state.session = Some(session);
    }

    /// Whether this request has refreshed the session.
    pub(crate) fn is_refreshed(&self, session: &Session) -> bool {
        self.state().refreshed(session).is_some()
    }

    /// Whether the session may have ended since this request has refreshed it: that was not just now, or any session of this
    /// process has ended since.
    pub(crate) fn may_have_ended(&self, session: &Session) -> bool {
        let (now, ended) = (self.common.now(), self.common.ended.load(Ordering::Relaxed));
        let state = self.state();
        (state.refreshed(session)).is_some_and(|refreshed| {
            refreshed.ended != ended || now.since(refreshed.at) >= JUST_NOW
        })
    }

    /// Whether the store still has the session. One that can't be asked in time may not have it.
    pub(crate) async fn is_live(&self, session: &Session) -> bool {
        let Some(id) = session.id().map(SessionId) else {
            return false;
        };
        matches!(self.load(id).await, Ok(Some(_)))
    }

    /// The handler has answered.
    pub(crate) fn handled(&self, session: &Session) -> Handled {
        let state = self.state();
        Handled {
            is_refreshed: state.refreshed(session).is_some(),
            has_said: state.said.started.is_some() || state.said.max_lifetime.is_some(),
        }
    }

    /// Nothing more is to be done but the layer's save: that need not extend once more what this request has refreshed.
    pub(crate) fn settle(&self, session: &Session) -> Settled {
        let id = session.id().map(SessionId);
        let mut state = self.state();
        state.notice(session.expiry());
        let is_refreshed = state
            .refreshed
            .as_ref()
            .is_some_and(|refreshed| Some(refreshed.id) == id);
        state.next_save = if is_refreshed {
            NextSave::Extended
        } else {
            NextSave::AtEnd
        };
        let known = id.and_then(|id| state.known(id));
        Settled {
            is_refreshed,
            keeps_another: known.is_some_and(|known| state.keeps_another(known)),
        }
    }

    /// Has tower-sessions send the cookie of a session that nobody has changed.
    pub(crate) fn send_cookie(&self, session: &Session) {
        self.state().next_save = NextSave::CookieOnly;
        session.mark_modified();
    }

    /// Keeps for the end of the request what the layer is not to remove.
    pub(crate) fn spare(&self, cookies: SparedCookies) {
        self.state().spared_cookies = Some(cookies);
    }

    /// The layer has done with the request, or was dropped: the session is let go, since it holds this. Whoever saves later
    /// asks for himself.
    pub(crate) fn finish(&self) -> Option<SparedCookies> {
        let mut state = self.state();
        if let Some(session) = state.session.take() {
            state.notice(session.expiry());
        }
        state.next_save = NextSave::Asked;
        state.spared_cookies.take()
    }
}
