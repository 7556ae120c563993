//! The specification: what becomes of sessions under a `LifetimeLayer`, whatever is done to them in whatever order.
//!
//! Pure, in whole hours. A request is a chain of steps, and each asks at most one thing of the store. So the order of the
//! steps of several requests is all that a race can change: `sequences` chooses it, `histories` looks for one that explains
//! what was seen.

use std::collections::BTreeMap;

use crate::world::{
    Act, Answer, Ask, Asked, Cookie, Data, Fault, Hours, INTERVAL, Info, Layer, No, Own, Policy,
    Process, Record, Said, Step, Stop, Terms, World,
};

/// How long tower-sessions keeps a session whose cookie ends with the browser.
const BROWSER_SESSION: Hours = 14 * 24;

type Store = BTreeMap<No, Record>;

impl Terms {
    fn max(&self, layer: &Layer) -> Option<Hours> {
        let both = [self.own_max, layer.max_lifetime];
        both.into_iter().flatten().min()
    }

    /// The fixed end or the absolute limit, whichever comes first.
    fn last(&self, layer: &Layer) -> Option<Hours> {
        let limit = (self.started.zip(self.max(layer))).map(|(from, max)| from + max);
        let fixed = match self.own {
            Own::Until(end) => Some(end),
            _ => None,
        };
        [fixed, limit].into_iter().flatten().min()
    }

    fn idle(&self, layer: &Layer) -> Option<Hours> {
        match self.own {
            Own::Layers => Some(layer.idle),
            Own::Idle(idle) => Some(idle),
            Own::Browser => Some(BROWSER_SESSION),
            Own::Until(_) => None,
        }
    }

    fn until_last(&self, layer: &Layer, expires: Hours) -> Hours {
        self.last(layer).map_or(expires, |last| last.min(expires))
    }

    /// When a session ends that is written now.
    fn end(&self, layer: &Layer, now: Hours) -> Hours {
        match self.idle(layer) {
            Some(idle) => self.until_last(layer, now + idle),
            None => self.last(layer).expect("it has a fixed end"),
        }
    }

    /// How long a cookie lives that is sent now.
    fn cookie_age(&self, layer: &Layer, now: Hours) -> Option<Hours> {
        let left = self.last(layer).map(|last| (last - now).max(0));
        match (self.own, self.idle(layer)) {
            (Own::Browser, _) => None,
            (_, None) => left,
            (_, Some(idle)) => Some(left.map_or(idle, |left| left.min(idle))),
        }
    }

    /// An absolute limit that counts from nothing yet counts from now.
    fn count(&mut self, layer: &Layer, now: Hours) {
        if self.max(layer).is_some() {
            self.started = self.started.or(Some(now));
        }
    }
}

/// A touch, as it reaches the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Touch {
    pub no: No,
    /// When the session ended by what the request knew.
    seen: Hours,
    due_before: Hours,
    expires: Hours,
    /// Of a session from before its absolute limit: what its record said, and since when that counts.
    first: Option<(Terms, Hours)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Touched {
    Done,
    NotDue,
    Gone,
    /// Somebody else is writing the session, and the store does not wait.
    Busy,
    /// Somebody else has given it another lifetime.
    Shortened,
    Failed,
}

/// A touch never creates, shortens or revives a session, and extends it once for all who race: promises 1, 3 and 4.
fn touch(store: &mut Store, touch: Touch) -> Touched {
    let Some(record) = store.get_mut(&touch.no) else {
        return Touched::Gone;
    };
    let is_due = record.expires <= touch.due_before && record.expires < touch.expires;
    match touch.first {
        None if is_due && record.expires < touch.seen => return Touched::Shortened,
        None if is_due => {}
        Some((was, started)) if was == record.terms => record.terms.started = Some(started),
        _ => return Touched::NotDue,
    }
    record.expires = touch.expires;
    Touched::Done
}

impl Info {
    fn without_session(outcome: &'static str) -> Self {
        Self {
            outcome,
            refreshed_at: None,
            expires_at: None,
            ends_at: None,
        }
    }
}

/// A request under way, and what it knows.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "each is a fact, independent of the others"
)]
pub struct Request {
    pub no: No,
    pub ask: Ask,
    pub stage: Stage,
    pub answer: Answer,
    has_cookie: bool,
    /// The session's id, as tower-sessions has it.
    pub id: Option<No>,
    /// The session's data, once it was loaded.
    data: Option<Data>,
    /// The id of tower-sessions' record, which a session that is created will have: `flush` leaves it as it is.
    record_id: Option<No>,
    /// What the store has, as far as the request knows.
    known: Option<Record>,
    /// The session was looked for in vain, before the handler asked for it.
    is_absent: bool,
    terms: Terms,
    has_set_expiry: bool,
    has_restarted: bool,
    has_set_max: bool,
    is_modified: bool,
    is_passive: bool,
    refreshed: Option<No>,
    /// A cookie that is sent if nobody looked whether the session is still there: a handler that did not wait may have been
    /// overtaken by another process.
    pub may_send: Option<Cookie>,
    /// Its next touch finds that somebody else is writing the session.
    pub finds_busy: bool,
    /// When the session would have ended whose id was renewed.
    renewed: Option<Hours>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    Decide,
    Touch(Extension),
    /// What has another request made of the session? This one arrived then.
    LookAgain(Hours),
    /// The same, for a save that changes nothing: in the handler, or after it.
    SaveAgain {
        in_handler: bool,
    },
    Extend {
        in_handler: bool,
    },
    Act,
    Look,
    Save,
    Write,
    Done,
}

/// A refresh that is due, or a touch that has to write down what an absolute limit counts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Extension {
    /// When the request arrived: that is the activity, however long the look-up takes.
    arrived: Hours,
    expires: Hours,
    due_before: Hours,
    is_due: bool,
}

/// Where a step happens.
struct Here<'a> {
    store: &'a mut Store,
    asked: &'a mut Asked,
    late: &'a mut Vec<Touch>,
    failures: &'a mut u8,
    layer: Layer,
    now: Hours,
}

impl World {
    /// Nobody has been here yet.
    pub fn new(processes: [Process; 2]) -> Self {
        Self {
            now: 0,
            store: Store::new(),
            clients: [None; 2],
            processes,
            requests: BTreeMap::new(),
            late: Vec::new(),
            asked: Asked::default(),
            next: 0,
        }
    }

    /// A request reaches its process.
    pub fn arrive(&mut self, ask: Ask) -> No {
        let no = self.next;
        self.next += 1;
        let id = self.clients[ask.client];
        self.requests.insert(no, Request::new(no, ask, id));
        no
    }

    /// The next thing that a request does.
    pub fn step(&mut self, no: No) {
        let request = self.requests.get_mut(&no).expect("it is under way");
        let process = &mut self.processes[request.ask.process];
        let here = &mut Here {
            store: &mut self.store,
            asked: &mut self.asked,
            late: &mut self.late,
            failures: &mut process.failures,
            layer: process.layer,
            now: self.now + process.skew,
        };
        request.stage = match request.stage {
            Stage::Decide => request.decide(here),
            Stage::Touch(extension) => request.refresh(extension, here),
            Stage::LookAgain(arrived) => request.look_again(arrived, here),
            Stage::SaveAgain { in_handler } => {
                request.load_again(here);
                Stage::Extend { in_handler }
            }
            Stage::Extend { in_handler } => request.extend(in_handler, here),
            Stage::Act => request.act(here),
            Stage::Look => request.look(here),
            Stage::Save | Stage::Write => request.save(here),
            Stage::Done => Stage::Done,
        };
    }

    /// Goes on until it stops or is done.
    pub fn run(&mut self, no: No, stop: Option<Stop>) {
        loop {
            let stage = self.requests[&no].stage;
            let stops = match stage {
                Stage::Touch(_) => stop == Some(Stop::LookUp),
                Stage::Act => stop == Some(Stop::Handler),
                Stage::Done => true,
                _ => false,
            };
            if stops {
                return;
            }
            self.step(no);
        }
    }

    /// The browser gets its answer, if it gets one.
    pub fn answer(&mut self, no: No) -> Answer {
        let Request { ask, answer, .. } = self.requests.remove(&no).expect("it is under way");
        match answer.cookie {
            _ if ask.is_lost => {}
            Cookie::None => {}
            Cookie::Removed => self.clients[ask.client] = None,
            Cookie::Sent(no, _) => self.clients[ask.client] = Some(no),
        }
        answer
    }

    /// Whatever happens; the answer of a request that is answered thereby.
    pub fn perform(&mut self, step: &Step) -> Option<(No, Answer)> {
        self.asked = Asked::default();
        let no = match *step {
            Step::Ask(ref ask) => {
                let no = self.arrive(ask.clone());
                self.run(no, ask.stop);
                no
            }
            Step::GoOn(no) => {
                self.run(no, None);
                no
            }
            Step::GiveUp(no) => {
                self.requests.remove(&no);
                return None;
            }
            Step::Pass(hours) => {
                self.now += hours;
                return None;
            }
            Step::End(no) => {
                self.store.remove(&no);
                return None;
            }
            Step::Sweep => return None,
            Step::Deploy(process, layer) => {
                let process = &mut self.processes[process];
                (process.layer, process.failures) = (layer, 0);
                return None;
            }
            Step::Land(late) => {
                touch(&mut self.store, self.late.remove(late));
                return None;
            }
            Step::SetCookie(client, cookie) => {
                self.clients[client] = cookie;
                return None;
            }
        };
        let is_done = self.requests[&no].stage == Stage::Done;
        is_done.then(|| (no, self.answer(no)))
    }
}

impl Request {
    fn new(no: No, ask: Ask, id: Option<No>) -> Self {
        Self {
            no,
            ask,
            stage: Stage::Decide,
            answer: Answer::default(),
            has_cookie: id.is_some(),
            id,
            data: None,
            record_id: None,
            known: None,
            is_absent: false,
            terms: Terms::default(),
            has_set_expiry: false,
            has_restarted: false,
            has_set_max: false,
            is_modified: false,
            is_passive: false,
            refreshed: None,
            may_send: None,
            finds_busy: false,
            renewed: None,
        }
    }

    /// Whether the session is there. One that is past its end is not, whatever the store has.
    fn load(&mut self, here: &mut Here<'_>) -> bool {
        let id = self.id.expect("only a session with an id is loaded");
        here.asked.loads += 1;
        let said = self.terms;
        self.known = here.store.get(&id).cloned().and_then(|mut record| {
            record.expires = record.terms.until_last(&here.layer, record.expires);
            (here.now < record.expires).then_some(record)
        });
        self.terms = self
            .known
            .as_ref()
            .map_or_else(Terms::default, |known| known.terms);
        if self.has_set_expiry {
            self.terms.own = said.own;
        }
        if self.has_restarted {
            self.terms.started = said.started;
        }
        if self.has_set_max {
            self.terms.own_max = said.own_max;
        }
        if self.known.is_some() {
            self.record_id = self.id;
            self.terms.count(&here.layer, here.now);
        }
        self.known.is_some()
    }

    /// The questions, cheapest first. Looking changes nothing: promises 2 and 5.
    fn decide(&mut self, here: &mut Here<'_>) -> Stage {
        let policy = self.ask.policy;
        if policy == Policy::Unannotated {
            return Stage::Act;
        }
        self.is_passive = matches!(policy, Policy::Passive | Policy::Prefetch);
        let without_session = match policy {
            _ if self.id.is_none() => Some("no_session"),
            Policy::SkipPath => Some("path"),
            Policy::SkipIf => Some("predicate"),
            _ if self.ask.fault == Some(Fault::LoadsFail) => {
                here.asked.loads += 1;
                Some("unavailable")
            }
            _ => None,
        };
        if let Some(outcome) = without_session {
            self.answer.info = Some(Info::without_session(outcome));
            return Stage::Act;
        }
        if !self.load(here) {
            self.is_absent = true;
            self.answer.info = Some(Info::without_session("no_session"));
            return Stage::Act;
        }
        self.answer.info = Some(self.unrefreshed(here.now, here));
        let known = self.known.as_ref().expect("it was loaded just now");
        self.data = Some(known.data.clone());
        let expires = self.terms.until_last(&here.layer, known.expires);
        let idle = self.terms.idle(&here.layer);
        let rolling = idle.map(|idle| here.now + idle);
        let end = rolling.unwrap_or(expires);
        let extension = Extension {
            arrived: here.now,
            expires: self.terms.until_last(&here.layer, end),
            due_before: end - INTERVAL,
            is_due: false,
        };
        let is_due = expires <= extension.due_before && expires < extension.expires;
        let is_counted = known.terms.started.is_some() || self.terms.started.is_none();
        if self.is_passive || (is_counted && !is_due) {
            return Stage::Act;
        }
        Stage::Touch(Extension {
            is_due,
            ..extension
        })
    }

    /// What is true of a session that is there and is not refreshed.
    fn unrefreshed(&self, arrived: Hours, here: &Here<'_>) -> Info {
        let known = self.known.as_ref().expect("it is there");
        let last = self.terms.last(&here.layer);
        let expires = self.terms.until_last(&here.layer, known.expires);
        let idle = self.terms.idle(&here.layer);
        let outcome = match self.ask.policy {
            Policy::Passive => "passive",
            Policy::Prefetch => "prefetch",
            _ if idle.is_none() => "fixed_expiry",
            _ => "not_due",
        };
        Info {
            outcome,
            refreshed_at: (idle.map(|idle| expires - idle))
                .filter(|at| last != Some(expires) && *at <= arrived),
            expires_at: Some(expires),
            ends_at: last,
        }
    }

    /// The session's end and lifetime, as the store has them by now. Its data stays as it was loaded.
    fn load_again(&mut self, here: &mut Here<'_>) -> bool {
        let (data, terms) = (self.known.take().map(|known| known.data), self.terms);
        let is_there = self.load(here);
        if let (Some(known), Some(data)) = (&mut self.known, data) {
            known.data = data;
        }
        if !is_there {
            self.terms = terms;
        }
        is_there
    }

    fn extend(&mut self, in_handler: bool, here: &mut Here<'_>) -> Stage {
        let end = self.terms.end(&here.layer, here.now);
        if self.known.is_some() {
            self.touch(end, end, here);
        }
        if in_handler {
            return Stage::Look;
        }
        self.send_cookie(here);
        Stage::Done
    }

    fn look_again(&mut self, arrived: Hours, here: &mut Here<'_>) -> Stage {
        self.answer.info = Some(if self.load_again(here) {
            self.unrefreshed(arrived, here)
        } else {
            self.is_absent = true;
            Info::without_session("gone")
        });
        Stage::Act
    }

    /// The user decides, and then the store.
    fn refresh(&mut self, extension: Extension, here: &mut Here<'_>) -> Stage {
        let info = self.answer.info.expect("it was decided");
        let data = self.data.as_ref().expect("it was loaded");
        let role = data.get("role").map(String::as_str);
        let skip = match (self.ask.policy, role) {
            // By default, where it is known who the user is.
            (Policy::SkipUnauthenticated | Policy::SkipStaff | Policy::SkipSuperuser, None) => {
                Some("unauthenticated")
            }
            (Policy::SkipStaff, Some("staff")) => Some("staff"),
            (Policy::SkipSuperuser, Some("superuser")) => Some("superuser"),
            _ => None,
        };
        let info = if let Some(outcome) = skip {
            Info { outcome, ..info }
        } else {
            match self.touch(extension.due_before, extension.expires, here) {
                Touched::Done if extension.is_due => {
                    self.refreshed = self.id;
                    Info {
                        outcome: "refreshed",
                        refreshed_at: Some(extension.arrived),
                        expires_at: Some(extension.expires),
                        ..info
                    }
                }
                Touched::Done => {
                    self.refreshed = self.id;
                    Info {
                        expires_at: info.expires_at.max(Some(extension.expires)),
                        ..info
                    }
                }
                // Somebody else was faster: when is not known.
                Touched::NotDue => {
                    let at_least = extension.due_before.min(extension.expires);
                    let expires_at = info.expires_at.max(Some(at_least));
                    Info {
                        refreshed_at: None,
                        expires_at,
                        ..info
                    }
                }
                Touched::Gone => Info::without_session("gone"),
                Touched::Shortened => return Stage::LookAgain(extension.arrived),
                // What he does to it is not known.
                Touched::Busy => Info {
                    refreshed_at: None,
                    ..info
                },
                Touched::Failed => Info {
                    outcome: "unavailable",
                    ..info
                },
            }
        };
        self.answer.info = Some(info);
        Stage::Act
    }

    fn touch(&mut self, due_before: Hours, expires: Hours, here: &mut Here<'_>) -> Touched {
        let known = self.known.as_mut().expect("only what is known is touched");
        if known.expires <= here.now {
            return Touched::Gone;
        }
        let started = self.terms.started.filter(|_| known.terms.started.is_none());
        let first = started.map(|started| (known.terms, started));
        let kept = self.terms.until_last(&here.layer, known.expires);
        here.asked.touches += 1;
        let no = self.id.expect("what is known has an id");
        let plain = Touch {
            no,
            seen: known.expires,
            due_before,
            expires,
            first: None,
        };
        let touching = Touch {
            expires: expires.max(first.map_or(expires, |_| kept)),
            first,
            ..plain
        };
        let is_late = (self.ask.fault).take_if(|fault| *fault == Fault::TouchIsLate);
        if is_late.is_some() {
            here.late.push(touching);
            *here.failures += 1;
            return Touched::Failed;
        }
        let mut done = touching;
        let mut touched = Touched::NotDue;
        if touching != plain {
            touched = touch(here.store, touching);
        }
        if touched == Touched::NotDue {
            // Of a first touch: somebody else has recorded it, or has given the session another lifetime.
            here.asked.touches += usize::from(touching != plain);
            done = plain;
            touched = if std::mem::take(&mut self.finds_busy) {
                Touched::Busy
            } else {
                touch(here.store, plain)
            };
        }
        if touched == Touched::Done {
            known.expires = done.expires;
            known.terms.started = known
                .terms
                .started
                .or(done.first.map(|(_, started)| started));
        }
        touched
    }

    /// The handler.
    fn act(&mut self, here: &mut Here<'_>) -> Stage {
        let act = self.ask.act;
        let loads = match act {
            Act::Nothing
            | Act::LogOut
            | Act::Clear
            | Act::FlushAnew
            | Act::Restart
            | Act::OwnLimit(_) => false,
            _ => self.data.is_none(),
        };
        if loads {
            if self.id.is_some() && !self.is_absent {
                if self.ask.fault == Some(Fault::LoadsFail) {
                    here.asked.loads += 1;
                    self.answer.has_failed = true;
                    return Stage::Look;
                }
                if self.load(here) {
                    self.data = self.known.as_ref().map(|known| known.data.clone());
                    return Stage::Act;
                }
            }
            // tower-sessions forgets the id of a session that it has looked for in vain.
            self.id = None;
            self.data = Some(Data::new());
        }
        match act {
            Act::Read => self.answer.saw.clone_from(&self.data),
            Act::Write | Act::Fail => {
                self.insert("written", self.no.to_string());
                self.answer.has_failed = act == Act::Fail;
            }
            Act::Undo => self.is_modified = true,
            Act::Save if self.id.is_none() => self.create(here),
            Act::Save if self.write(here) == Touched::Shortened => {
                return Stage::SaveAgain { in_handler: true };
            }
            Act::Nothing | Act::Save => {}
            Act::SetExpiry(said) => self.set_expiry(said, here),
            Act::LogIn(role, said) => {
                self.renew(here);
                self.insert("role", role.name().to_owned());
                self.restart(here);
                self.set_expiry(said, here);
            }
            Act::LogOut => self.flush(here),
            Act::CycleId => self.renew(here),
            Act::Clear => self.clear(),
            Act::FlushAnew => {
                self.flush(here);
                self.insert("role", "user".to_owned());
            }
            Act::Restart => self.restart(here),
            Act::OwnLimit(max) => {
                self.has_set_max = true;
                self.terms.own_max = max;
                self.terms.count(&here.layer, here.now);
            }
        }
        Stage::Look
    }

    fn insert(&mut self, key: &str, value: String) {
        let data = self.data.get_or_insert_default();
        self.is_modified |= data.get(key) != Some(&value);
        data.insert(key.to_owned(), value);
    }

    fn set_expiry(&mut self, said: Said, here: &Here<'_>) {
        self.terms.own = match said {
            Said::Nothing => return,
            Said::Layers => Own::Layers,
            Said::Idle(idle) => Own::Idle(idle),
            Said::Fixed(left) => Own::Until(here.now + left),
            Said::Browser => Own::Browser,
        };
        self.has_set_expiry = true;
        self.is_modified = true;
    }

    fn restart(&mut self, here: &Here<'_>) {
        self.has_restarted = true;
        self.terms.started = Some(here.now);
    }

    /// `cycle_id`: the session's lifetime goes on.
    fn renew(&mut self, here: &mut Here<'_>) {
        here.asked.deletes += 1;
        if let Some(id) = self.id.take() {
            here.store.remove(&id);
        }
        self.record_id = None;
        self.renewed = self.known.take().map(|known| known.expires);
        self.refreshed = None;
        self.is_modified = true;
    }

    fn clear(&mut self) {
        self.record_id = self.record_id.or(self.id);
        self.data = (self.data.is_some() || self.id.is_some()).then(Data::new);
        self.is_modified = true;
    }

    /// `flush`: whatever comes after is another session.
    fn flush(&mut self, here: &mut Here<'_>) {
        self.clear();
        if let Some(id) = self.id.take() {
            here.asked.deletes += 1;
            here.store.remove(&id);
            self.terms = Terms::default();
            (self.has_set_expiry, self.has_restarted, self.has_set_max) = (false, false, false);
            self.known = None;
            self.refreshed = None;
        }
        self.is_modified = true;
    }

    fn is_refreshed(&self) -> bool {
        self.refreshed.is_some() && self.refreshed == self.id
    }

    /// The handler has answered: is the cookie to be sent again? Not where a shared cache may keep it, nor that of a session
    /// which has ended meanwhile: promises 1 and 8.
    fn look(&mut self, here: &mut Here<'_>) -> Stage {
        let mut sends_cookie =
            self.is_refreshed() && !self.answer.has_failed && !self.ask.is_shareable;
        if sends_cookie && !self.is_modified {
            here.asked.looks += 1;
            let id = self.id.expect("it was refreshed");
            sends_cookie = here.store.contains_key(&id);
            if !sends_cookie {
                let age = self.terms.cookie_age(&here.layer, here.now);
                self.may_send = Some(Cookie::Sent(id, age));
            }
        } else if (self.has_restarted || self.has_set_max) && !self.is_modified {
            let is_to_load = self.known.is_none() && !self.is_absent && self.id.is_some();
            if is_to_load && self.load(here) {
                self.data = self.known.as_ref().map(|known| known.data.clone());
            }
        }
        self.is_modified |= sends_cookie || self.keeps_another();
        Stage::Save
    }

    /// Whether the record has to keep another lifetime, by somebody's wish.
    fn keeps_another(&self) -> bool {
        self.known.as_ref().is_some_and(|known| {
            let mut kept = known.terms;
            // What an absolute limit counts from is nobody's wish, unless it was restarted.
            if kept.started.is_none() && !self.has_restarted {
                kept.started = self.terms.started;
            }
            kept != self.terms
        })
    }

    /// What tower-sessions' layer does with the session, and its cookie.
    fn save(&mut self, here: &mut Here<'_>) -> Stage {
        let is_empty = self.id.is_none() && self.data.as_ref().is_none_or(Data::is_empty);
        if self.has_cookie && is_empty {
            self.answer.cookie = Cookie::Removed;
        } else if self.is_modified && !is_empty && !self.answer.has_failed {
            if self.id.is_none() {
                self.create(here);
            } else if self.known.is_none() && self.stage == Stage::Save {
                // `clear` did not read it.
                self.load(here);
                return Stage::Write;
            } else if self.write(here) == Touched::Shortened {
                return Stage::SaveAgain { in_handler: false };
            }
            self.send_cookie(here);
        }
        Stage::Done
    }

    fn send_cookie(&mut self, here: &Here<'_>) {
        let id = self.id.expect("it was written");
        self.answer.cookie = Cookie::Sent(id, self.terms.cookie_age(&here.layer, here.now));
    }

    fn create(&mut self, here: &mut Here<'_>) {
        self.terms.count(&here.layer, here.now);
        let expires = match self.renewed {
            Some(expires) if self.is_passive && !self.has_set_expiry => {
                self.terms.until_last(&here.layer, expires)
            }
            _ => self.terms.end(&here.layer, here.now),
        };
        here.asked.creates += 1;
        let is_free = |no: &No| !here.store.contains_key(no);
        let no = self.record_id.filter(is_free).unwrap_or(self.no);
        self.id = Some(no);
        self.write_down(expires);
        here.store
            .extend(self.known.clone().map(|record| (no, record)));
    }

    /// Writes what has changed, if the session is still there. What is unchanged extends it, unless this request has.
    fn write(&mut self, here: &mut Here<'_>) -> Touched {
        let Some(known) = &self.known else {
            return Touched::Gone;
        };
        if known.terms.until_last(&here.layer, known.expires) <= here.now {
            return Touched::Gone;
        }
        let end = self.terms.end(&here.layer, here.now);
        if self.keeps_another() || self.data.as_ref() != Some(&known.data) {
            let is_passive = self.is_passive && known.terms.own == self.terms.own;
            let expires = if is_passive {
                self.terms.until_last(&here.layer, known.expires)
            } else {
                end
            };
            here.asked.saves += 1;
            self.write_down(expires);
            let id = self.id.expect("it is known");
            if let Some(record) = here.store.get_mut(&id) {
                let was = record.expires;
                record.clone_from(self.known.as_ref().expect("it was written down"));
                if is_passive {
                    // Somebody may have extended it meanwhile.
                    record.expires = record.expires.max(was);
                }
            }
            return Touched::Done;
        }
        let is_at_end = self.stage != Stage::Act;
        let extends = !is_at_end || !(self.has_set_expiry || self.is_refreshed());
        if extends && !self.is_passive {
            return self.touch(end, end, here);
        }
        Touched::NotDue
    }

    fn write_down(&mut self, expires: Hours) {
        let data = self.data.clone().unwrap_or_default();
        self.known = Some(Record {
            data,
            expires,
            terms: self.terms,
        });
        (self.has_set_expiry, self.has_restarted, self.has_set_max) = (false, false, false);
        self.renewed = None;
    }
}
