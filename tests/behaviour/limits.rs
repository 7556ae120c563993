//! When a session ends, whatever is done to it in whatever order: a small model says so, and the application has to agree.

use axum::{
    Extension, Router,
    extract::Path,
    routing::{get, post},
};
use proptest::{
    prelude::*,
    test_runner::{Config, TestCaseError, TestRunner},
};
use session_refresh::{SessionLifetime, session_refresh};
use session_refresh_tests::{Answer, Client, Sessions, Setup, Site, TestClock};
use time::{Duration, OffsetDateTime};
use tokio::runtime::Handle;
use tower_sessions::{Expiry, Session};

use crate::about;

on_touching_stores![a_session_ends_when_the_model_says];

const DAY: Duration = Duration::DAY;
const INTERVAL: Duration = Duration::DAY;

/// What is done to the session.
#[derive(Clone, Copy, Debug)]
enum Step {
    Advance(Duration),
    /// A page that refreshes, and one that does not know of it.
    Visit,
    Insert,
    PassiveInsert,
    Save,
    CycleId,
    Clear,
    Flush,
    /// Logs in, and says how long the session is to live.
    LogIn(Said),
    RestartLimit,
    OwnLimit(Option<Duration>),
    /// The application is deployed anew.
    Deploy(Layer),
}

/// What the application says of a session.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Said {
    Nothing,
    Layers,
    Idle(Duration),
    Fixed(Duration),
    Browser,
}

/// What the layer says of all.
#[derive(Clone, Copy, Debug)]
struct Layer {
    idle: Duration,
    max_lifetime: Option<Duration>,
}

fn hours(range: std::ops::Range<i64>) -> impl Strategy<Value = Duration> {
    range.prop_map(Duration::hours)
}

fn steps() -> impl Strategy<Value = (Layer, Vec<Step>)> {
    let max = || prop::option::of(hours(24..40 * 24));
    let layer = move || {
        (hours(48..20 * 24), max()).prop_map(|(idle, max_lifetime)| Layer { idle, max_lifetime })
    };
    let said = prop_oneof![
        Just(Said::Nothing),
        Just(Said::Layers),
        hours(48..30 * 24).prop_map(Said::Idle),
        hours(1..60 * 24).prop_map(Said::Fixed),
        Just(Said::Browser),
    ];
    let step = prop_oneof![
        6 => hours(1..6 * 24).prop_map(Step::Advance),
        4 => Just(Step::Visit),
        2 => Just(Step::Insert),
        1 => Just(Step::PassiveInsert),
        1 => Just(Step::Save),
        1 => Just(Step::CycleId),
        1 => Just(Step::Clear),
        1 => Just(Step::Flush),
        3 => said.prop_map(Step::LogIn),
        1 => Just(Step::RestartLimit),
        1 => max().prop_map(Step::OwnLimit),
        1 => layer().prop_map(Step::Deploy),
    ];
    (layer(), prop::collection::vec(step, 1..30))
}

/// A session as it has to be.
#[derive(Clone, Copy, Debug)]
struct Model {
    expires: OffsetDateTime,
    own: Own,
    /// Since when its absolute limit counts, once that is written down.
    started: Option<OffsetDateTime>,
    own_max: Option<Duration>,
    has_role: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Own {
    Layers,
    Idle(Duration),
    Until(OffsetDateTime),
    Browser,
}

impl Model {
    fn new(layer: &Layer, now: OffsetDateTime) -> Self {
        let mut session = Self {
            expires: now,
            own: Own::Layers,
            started: None,
            own_max: None,
            has_role: false,
        };
        session.write(layer, now);
        session
    }

    fn max(&self, layer: &Layer) -> Option<Duration> {
        [self.own_max, layer.max_lifetime]
            .into_iter()
            .flatten()
            .min()
    }

    fn limit(&self, layer: &Layer, now: OffsetDateTime) -> Option<OffsetDateTime> {
        let max = self.max(layer)?;
        Some(self.started.unwrap_or(now) + max)
    }

    /// The fixed end or the limit, whichever comes first.
    fn last(&self, layer: &Layer, now: OffsetDateTime) -> Option<OffsetDateTime> {
        let fixed = match self.own {
            Own::Until(end) => Some(end),
            _ => None,
        };
        [fixed, self.limit(layer, now)].into_iter().flatten().min()
    }

    fn idle(&self, layer: &Layer) -> Option<Duration> {
        match self.own {
            Own::Layers => Some(layer.idle),
            Own::Idle(idle) => Some(idle),
            Own::Browser => Some(14 * DAY),
            Own::Until(_) => None,
        }
    }

    /// The end of a session that is written now.
    fn end(&self, layer: &Layer, now: OffsetDateTime) -> OffsetDateTime {
        let rolling = self.idle(layer).map(|idle| now + idle);
        let ends = [rolling, self.last(layer, now)];
        ends.into_iter().flatten().min().expect("one of both")
    }

    fn expires(&self, layer: &Layer, now: OffsetDateTime) -> OffsetDateTime {
        let last = self.last(layer, now);
        last.map_or(self.expires, |last| last.min(self.expires))
    }

    fn is_live(&self, layer: &Layer, now: OffsetDateTime) -> bool {
        now < self.expires(layer, now)
    }

    fn count(&mut self, layer: &Layer, now: OffsetDateTime) {
        if self.max(layer).is_some() {
            self.started = self.started.or(Some(now));
        }
    }

    fn write(&mut self, layer: &Layer, now: OffsetDateTime) {
        self.count(layer, now);
        self.expires = self.end(layer, now);
    }

    fn write_passively(&mut self, layer: &Layer, now: OffsetDateTime) {
        self.count(layer, now);
        self.expires = self.expires(layer, now);
    }

    /// Never shortens, but to a limit.
    fn touch(&mut self, layer: &Layer, now: OffsetDateTime) {
        self.count(layer, now);
        self.expires = self.end(layer, now).max(self.expires(layer, now));
    }

    fn visit(&mut self, layer: &Layer, now: OffsetDateTime) {
        let Some(idle) = self.idle(layer) else { return };
        let is_counted = self.started.is_some() || self.max(layer).is_none();
        let (expires, end) = (self.expires(layer, now), self.end(layer, now));
        if !is_counted || (expires <= now + idle - INTERVAL && expires < end) {
            self.touch(layer, now);
        }
    }

    /// How long a cookie lives that is sent now.
    fn cookie(&self, layer: &Layer, now: OffsetDateTime) -> Option<Duration> {
        let left = self.last(layer, now).map(|last| last - now);
        match (self.own, self.idle(layer)) {
            (Own::Browser, _) => None,
            (_, None) => left,
            (_, Some(idle)) => Some(left.map_or(idle, |left| left.min(idle))),
        }
    }

    fn own(said: Said, now: OffsetDateTime, layer: &Layer) -> Own {
        match said {
            Said::Nothing | Said::Layers => Own::Layers,
            // The layer's own can't be told from nothing said.
            Said::Idle(idle) if idle == layer.idle => Own::Layers,
            Said::Idle(idle) => Own::Idle(idle),
            Said::Fixed(left) => Own::Until(now + left),
            Said::Browser => Own::Browser,
        }
    }

    /// What a step makes of a session, or of none.
    fn after(
        session: Option<Self>,
        step: Step,
        layer: &Layer,
        now: OffsetDateTime,
    ) -> Option<Self> {
        let live = session.filter(|session| session.is_live(layer, now));
        let Some(mut session) = live else {
            let mut new = Self::new(layer, now);
            match step {
                Step::Insert | Step::PassiveInsert | Step::Clear => {}
                Step::Flush => new.has_role = true,
                Step::LogIn(said) => {
                    new.has_role = true;
                    new.own = Self::own(said, now, layer);
                    new.write(layer, now);
                }
                Step::OwnLimit(max) => {
                    new.has_role = true;
                    new.own_max = max;
                    new.write(layer, now);
                }
                // Looked for in vain: the browser drops its cookie.
                Step::CycleId => return None,
                // One that is past its limit is there again if the next deployment has a higher one.
                _ => return session,
            }
            return Some(new);
        };
        match step {
            Step::Advance(_) | Step::Deploy(_) => {}
            Step::Visit => session.visit(layer, now),
            Step::Insert | Step::CycleId => session.write(layer, now),
            // What is unchanged is touched.
            Step::Save => session.touch(layer, now),
            Step::PassiveInsert => session.write_passively(layer, now),
            Step::Clear => {
                session.has_role = false;
                session.write(layer, now);
            }
            Step::Flush => {
                session = Self::new(layer, now);
                session.has_role = true;
            }
            Step::LogIn(said) => {
                let own = match said {
                    Said::Nothing => session.own,
                    said => Self::own(said, now, layer),
                };
                if own != session.own || !session.has_role {
                    session.own = own;
                    session.write(layer, now);
                }
                session.has_role = true;
            }
            Step::RestartLimit => {
                session.started = Some(now);
                session.write(layer, now);
            }
            Step::OwnLimit(max) => {
                if max != session.own_max || !session.has_role {
                    session.own_max = max;
                    session.write(layer, now);
                }
                session.has_role = true;
            }
        }
        Some(session)
    }
}

#[session_refresh(interval = "24h")]
async fn visit() {}

#[session_refresh(passive)]
async fn look(session: Session, Path(action): Path<String>) {
    if action == "insert" {
        insert(session).await;
    }
}

async fn insert(session: Session) {
    let now = OffsetDateTime::now_utc().unix_timestamp_nanos().to_string();
    session.insert("at", now).await.unwrap();
}

async fn act(session: Session, Path(action): Path<String>) {
    match action.as_str() {
        "save" => session.save().await.unwrap(),
        "cycle_id" => session.cycle_id().await.unwrap(),
        "clear" => {
            // Read first: what is cleared unread may be gone.
            let _: Option<String> = session.get("role").await.unwrap();
            session.clear().await;
            insert(session).await;
        }
        "flush" => {
            session.flush().await.unwrap();
            session.insert("role", "user").await.unwrap();
        }
        other => panic!("{other}"),
    }
}

async fn log_in(
    session: Session,
    Extension(clock): Extension<TestClock>,
    Path((how, hours)): Path<(String, i64)>,
) {
    session.insert("role", "user").await.unwrap();
    // `AtDateTime` is a time by the clock that the layer goes by.
    let length = Duration::hours(hours);
    match how.as_str() {
        "layers" => session.set_expiry(None),
        "idle" => session.set_expiry(Some(Expiry::OnInactivity(length))),
        "fixed" => session.set_expiry(Some(Expiry::AtDateTime(clock.now() + length))),
        "browser" => session.set_expiry(Some(Expiry::OnSessionEnd)),
        _ => {}
    }
}

async fn restart_limit(lifetime: SessionLifetime) {
    lifetime.restart();
}

async fn own_limit(lifetime: SessionLifetime, session: Session, Path(hours): Path<i64>) {
    session.insert("role", "user").await.unwrap();
    lifetime.set_max_lifetime((hours > 0).then_some(Duration::hours(hours)));
}

async fn deploy<K: Sessions>(sessions: &K, clock: &TestClock, layer: &Layer) -> Site<K> {
    let routes = Router::new()
        .route("/visit", get(visit))
        .route("/look/{action}", get(look))
        .route("/insert", post(insert))
        .route("/act/{action}", post(act))
        .route("/log_in/{how}/{hours}", post(log_in))
        .route("/restart_limit", post(restart_limit))
        .route("/own_limit/{hours}", post(own_limit))
        .layer(Extension(clock.clone()));
    let mut setup = Setup::new(routes)
        .without_user_source()
        .expiry(Expiry::OnInactivity(layer.idle))
        .clock(clock)
        .on(sessions.clone());
    if let Some(max_lifetime) = layer.max_lifetime {
        setup = setup.max_lifetime(max_lifetime);
    }
    setup.start().await
}

async fn perform(client: &Client, step: Step) -> Option<Answer> {
    let path = match step {
        Step::Advance(_) | Step::Deploy(_) => return None,
        Step::Visit => return Some(client.get("/visit").await),
        Step::PassiveInsert => return Some(client.get("/look/insert").await),
        Step::Insert => "/insert".into(),
        Step::Save => "/act/save".into(),
        Step::CycleId => "/act/cycle_id".into(),
        Step::Clear => "/act/clear".into(),
        Step::Flush => "/act/flush".into(),
        Step::RestartLimit => "/restart_limit".into(),
        Step::OwnLimit(max) => {
            format!("/own_limit/{}", max.map_or(0, Duration::whole_hours))
        }
        Step::LogIn(said) => match said {
            Said::Nothing => "/log_in/nothing/0".into(),
            Said::Layers => "/log_in/layers/0".into(),
            Said::Browser => "/log_in/browser/0".into(),
            Said::Idle(idle) => format!("/log_in/idle/{}", idle.whole_hours()),
            Said::Fixed(left) => format!("/log_in/fixed/{}", left.whole_hours()),
        },
    };
    Some(client.post(&path).await)
}

/// Does the steps one by one, and asks a passive page after each what has become of the session.
async fn compare<K: Sessions>(
    sessions: &K,
    first: Layer,
    steps: Vec<Step>,
) -> Result<(), TestCaseError> {
    let clock = TestClock::default();
    let mut layer = first;
    let mut site = deploy(sessions, &clock, &layer).await;
    let mut client = site.visitor();
    let mut session: Option<Model> = None;
    for step in steps {
        let answer = perform(&client, step).await;
        match step {
            Step::Advance(time) => clock.advance(time),
            Step::Deploy(new) => {
                layer = new;
                site = deploy(sessions, &clock, &layer).await;
                client = site.welcome(&client);
            }
            _ => {}
        }
        let now = clock.now();
        session = Model::after(session, step, &layer, now);
        let live = session.filter(|session| session.is_live(&layer, now));

        let sent = answer
            .filter(|answer| answer.set_cookie().starts_with("id=") && !answer.removes_cookie());
        if let (Some(sent), Some(live)) = (sent, live) {
            let same = match (sent.cookie_age(), live.cookie(&layer, now)) {
                (Some(age), Some(expected)) => about(age, expected),
                (age, expected) => age == expected,
            };
            prop_assert!(same, "{step:?}: {live:?} {layer:?} {sent:?}");
        }
        let seen = client.get("/look/at").await;
        let agrees = match live {
            None => seen.expires_at().is_none() && seen.outcome() == "no_session",
            Some(live) => {
                let ends = live.last(&layer, now);
                let expires = live.expires(&layer, now);
                seen.expires_at()
                    .is_some_and(|at| about(at - expires, Duration::ZERO))
                    && match (seen.ends_at(), ends) {
                        (Some(at), Some(end)) => about(at - end, Duration::ZERO),
                        (at, end) => at == end,
                    }
            }
        };
        prop_assert!(agrees, "{step:?} at {now}: {session:?} {layer:?} {seen:?}");
    }
    Ok(())
}

async fn a_session_ends_when_the_model_says<K: Sessions>(sessions: K) {
    let config = Config {
        cases: std::env::var("LIMIT_CASES").map_or(16, |cases| cases.parse().expect("a number")),
        failure_persistence: None,
        ..Config::default()
    };
    tokio::task::block_in_place(|| {
        let ran = TestRunner::new(config).run(&steps(), |(layer, steps)| {
            Handle::current().block_on(compare(&sessions, layer, steps))
        });
        if let Err(difference) = ran {
            panic!("{difference}");
        }
    });
}
