//! What there is, and what can be done to it: the words of the specification, whose rules are in `model`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::model::{Request, Touch};

/// Since the beginning of the test.
pub type Hours = i64;

/// The interval of every route that refreshes.
pub const INTERVAL: Hours = 24;

/// A session: the request that created it.
pub type No = u32;

/// A session that no request has created: somebody has made its cookie up.
pub const MADE_UP: No = No::MAX;

pub type Data = BTreeMap<String, String>;

/// Everything there is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct World {
    pub now: Hours,
    /// What the store has. A session that has ended by the store's clock is not there, swept or not.
    pub store: BTreeMap<No, Record>,
    /// The cookies that browsers have.
    pub clients: [Option<No>; 2],
    pub processes: [Process; 2],
    /// Requests that have begun.
    pub requests: BTreeMap<No, Request>,
    /// Touches whose answer was lost, and that are still on their way.
    pub late: Vec<Touch>,
    /// What the last step has asked of the store.
    pub asked: Asked,
    pub next: No,
}

/// How often the store was asked for what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Asked {
    pub creates: usize,
    pub loads: usize,
    /// Whether a session is still there, asked only if anything may have happened meanwhile.
    pub looks: usize,
    pub saves: usize,
    pub touches: usize,
    pub deletes: usize,
}

/// What happens.
#[derive(Clone, Debug)]
pub enum Step {
    Ask(Ask),
    /// A request that waits goes on, to its end.
    GoOn(No),
    /// A request that waits is given up by its browser.
    GiveUp(No),
    Pass(Hours),
    /// A session ends by the store's clock, whatever the processes' clocks say.
    End(No),
    /// The store deletes what has ended.
    Sweep,
    /// A process is started anew.
    Deploy(usize, Layer),
    /// A late touch reaches the store.
    Land(usize),
    /// A browser has another cookie: an old one, none, or one that somebody has made up.
    SetCookie(usize, Option<No>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Process {
    /// By how much its clock is ahead.
    pub skew: Hours,
    pub layer: Layer,
    /// How many touches have failed since it was started.
    pub failures: u8,
}

/// What a `LifetimeLayer` says of all sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Layer {
    pub idle: Hours,
    pub max_lifetime: Option<Hours>,
}

/// What the store keeps of a session.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Record {
    pub data: Data,
    pub expires: Hours,
    pub terms: Terms,
}

/// What a session keeps of its own lifetime.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Terms {
    pub own: Own,
    /// Since when its absolute limit counts.
    pub started: Option<Hours>,
    pub own_max: Option<Hours>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Own {
    #[default]
    Layers,
    Idle(Hours),
    Until(Hours),
    Browser,
}

/// What a browser asks for, and what goes wrong meanwhile.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Ask {
    pub client: usize,
    pub process: usize,
    pub policy: Policy,
    pub act: Act,
    pub stop: Option<Stop>,
    pub fault: Option<Fault>,
    /// Whether the handler lets shared caches keep the response.
    pub is_shareable: bool,
    /// The browser never gets the response.
    pub is_lost: bool,
}

/// The words of the route's attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Policy {
    Unannotated,
    Active,
    Passive,
    Prefetch,
    SkipPath,
    SkipIf,
    SkipUnauthenticated,
    SkipStaff,
    SkipSuperuser,
}

/// What the handler does with the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Act {
    Nothing,
    Read,
    Write,
    /// Inserts and removes again.
    Undo,
    Save,
    /// Changes the session and answers with a 500.
    Fail,
    SetExpiry(Said),
    /// As documented: `cycle_id`, the user's role, `restart`.
    LogIn(Role, Said),
    LogOut,
    CycleId,
    /// Without reading it first.
    Clear,
    FlushAnew,
    Restart,
    OwnLimit(Option<Hours>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Role {
    User,
    Staff,
    Superuser,
}

impl Role {
    pub fn name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Staff => "staff",
            Self::Superuser => "superuser",
        }
    }
}

/// What the application says to `set_expiry`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Said {
    Nothing,
    Layers,
    Idle(Hours),
    Fixed(Hours),
    Browser,
}

/// Where a request waits until it is let go on, or is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Stop {
    /// The session was found and is due; the user is being looked up.
    LookUp,
    /// The session was refreshed, the handler has done nothing yet.
    Handler,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Fault {
    /// The store loads nothing for this request.
    LoadsFail,
    /// The store fails to answer the touch, which reaches it nevertheless, some time later.
    TouchIsLate,
}

/// What a browser, and the handler, are told.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Answer {
    pub has_failed: bool,
    pub info: Option<Info>,
    /// The data that the handler has read.
    pub saw: Option<Data>,
    pub cookie: Cookie,
}

/// `RefreshInfo`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Info {
    pub outcome: &'static str,
    pub refreshed_at: Option<Hours>,
    pub expires_at: Option<Hours>,
    pub ends_at: Option<Hours>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Cookie {
    #[default]
    None,
    Removed,
    /// With its `Max-Age`.
    Sent(No, Option<Hours>),
}
