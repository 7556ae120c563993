//! The application under test: routes with each word of the attribute, in two processes on one store, over HTTP.

use std::{
    collections::{BTreeMap, HashMap},
    ops::RangeInclusive,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicI64, Ordering},
    },
};

use axum::{
    BoxError, Extension, Router,
    extract::{FromRequestParts, Request},
    http::{HeaderMap, StatusCode, request::Parts},
    middleware::{Next, from_fn},
    response::{IntoResponse, Response},
    routing::get,
};
use session_refresh::{
    LifetimeLayer, RefreshInfo, SessionLifetime, SessionUser, session_refresh,
    store::{self, EncodedLoad, FirstTouch, SessionId, StoreError, Touch, Touched},
};
use session_refresh_tests::{
    Answer as Seen, CountingStore, Gate, Options, Sessions, Setup, Site, backends::Backend,
};
use time::{Duration, OffsetDateTime};
use tokio::task::JoinHandle;
use tower_sessions::{
    Expiry, Session, SessionStore,
    session::{Id, Record as StoredRecord},
    session_store,
};

use crate::world::{
    Act, Answer, Ask, Asked, Cookie, Data, Fault, Hours, Info, Layer, MADE_UP, No, Own, Policy,
    Process, Record, Said, Stop, Terms,
};

/// A store whose loads fail for some requests, and whose touches may come late.
#[derive(Clone, Debug)]
pub struct Faulty<S> {
    store: S,
    touches: Arc<Mutex<LateTouches>>,
}

#[derive(Debug, Default)]
struct LateTouches {
    /// Whose next touch is late.
    next: Option<SessionId>,
    under_way: Vec<LateTouch>,
}

#[derive(Clone, Debug)]
enum LateTouch {
    Plain(SessionId, RangeInclusive<OffsetDateTime>, OffsetDateTime),
    First(FirstTouch),
}

tokio::task_local! {
    /// Whether the request finds the store out of order.
    static LOADS_FAIL: bool;
}

impl<S: Touch> Faulty<S> {
    fn new(store: S) -> Self {
        Self {
            store,
            touches: Arc::default(),
        }
    }

    fn touches(&self) -> MutexGuard<'_, LateTouches> {
        self.touches.lock().expect("nobody panics with it")
    }

    /// Keeps a touch back, if that of this session is to be late.
    fn keep_back(&self, id: SessionId, touch: LateTouch) -> Result<(), BoxError> {
        let mut touches = self.touches();
        if touches.next.take_if(|next| *next == id).is_some() {
            touches.under_way.push(touch);
            return Err("the connection was lost".into());
        }
        Ok(())
    }

    async fn land(&self, late: usize) {
        let touch = self.touches().under_way.remove(late);
        match touch {
            LateTouch::Plain(id, due, expiry) => self.store.touch(id, due, expiry).await.map(drop),
            LateTouch::First(touch) => self.store.touch_first(touch).await.map(drop),
        }
        .expect("the store is up");
    }
}

fn may_load() -> Result<(), &'static str> {
    let fails = LOADS_FAIL.try_with(|fails| *fails).unwrap_or_default();
    if fails {
        Err("the store is out of order")
    } else {
        Ok(())
    }
}

#[async_trait::async_trait]
impl<S: SessionStore> SessionStore for Faulty<S> {
    async fn create(&self, record: &mut StoredRecord) -> session_store::Result<()> {
        self.store.create(record).await
    }

    async fn save(&self, record: &StoredRecord) -> session_store::Result<()> {
        self.store.save(record).await
    }

    async fn load(&self, id: &Id) -> session_store::Result<Option<StoredRecord>> {
        may_load().map_err(|words| session_store::Error::Backend(words.into()))?;
        self.store.load(id).await
    }

    async fn delete(&self, id: &Id) -> session_store::Result<()> {
        self.store.delete(id).await
    }
}

impl<S: Touch> Touch for Faulty<S> {
    async fn touch(
        &self,
        id: SessionId,
        due: RangeInclusive<OffsetDateTime>,
        expiry: OffsetDateTime,
    ) -> Result<Touched, BoxError> {
        self.keep_back(id, LateTouch::Plain(id, due.clone(), expiry))?;
        self.store.touch(id, due, expiry).await
    }

    fn latest_expiry(&self) -> OffsetDateTime {
        self.store.latest_expiry()
    }

    async fn load_encoded(&self, id: SessionId) -> Result<EncodedLoad, StoreError> {
        may_load().map_err(|words| StoreError::Backend(words.into()))?;
        self.store.load_encoded(id).await
    }

    async fn save_passively(&self, record: &store::Record) -> Result<Option<()>, StoreError> {
        self.store.save_passively(record).await
    }

    async fn touch_first(&self, touch: FirstTouch) -> Result<Option<Touched>, BoxError> {
        self.keep_back(touch.id, LateTouch::First(touch.clone()))?;
        self.store.touch_first(touch).await
    }
}

/// Time that stands still until it is moved.
#[derive(Clone, Debug)]
struct Clock {
    began: OffsetDateTime,
    hours: Arc<AtomicI64>,
}

impl Clock {
    fn at(&self, hours: Hours) -> OffsetDateTime {
        self.began + Duration::hours(hours)
    }

    fn hours(&self) -> Hours {
        self.hours.load(Ordering::SeqCst)
    }

    fn advance(&self, hours: Hours) {
        self.hours.fetch_add(hours, Ordering::SeqCst);
    }
}

/// A process's `LifetimeLayer`, and outside of it whether the store works for the request.
#[derive(Clone, Debug)]
struct Stack<S> {
    store: Faulty<S>,
    clock: Clock,
    max_lifetime: Option<Hours>,
}

impl<S: SessionStore + Touch + Clone> Sessions for Stack<S> {
    type Store = Faulty<S>;
    const TOUCH: bool = true;

    fn store(&self) -> Faulty<S> {
        self.store.clone()
    }

    fn layer(&self, store: CountingStore<Faulty<S>>, routes: Router, options: &Options) -> Router {
        let (clock, options) = (self.clock.clone(), options.clone());
        let mut sessions = LifetimeLayer::new(store, move |store| options.sessions(store))
            .with_clock(move || clock.at(clock.hours()));
        if let Some(max_lifetime) = self.max_lifetime {
            sessions = sessions.with_max_lifetime(Duration::hours(max_lifetime));
        }
        let faults = from_fn(async |request: Request, next: Next| {
            let fails = ask(request.headers()).fault == Some(Fault::LoadsFail);
            LOADS_FAIL.scope(fails, next.run(request)).await
        });
        routes.layer(sessions).layer(faults)
    }
}

const ASK: &str = "x-ask";
const NO: &str = "x-no";
const SESSION: &str = "x-session";
const TOLD: &str = "x-told";

fn ask(headers: &HeaderMap) -> Ask {
    serde_json::from_slice(headers[ASK].as_bytes()).expect("it was written by the test")
}

/// Where each request that is under way waits.
type Stops = Arc<Mutex<HashMap<No, Waiting>>>;

#[derive(Clone, Debug, Default)]
struct Waiting {
    gate: Gate,
    /// Says when the request was given up.
    gone: Gate,
}

struct GivenUp(Gate);

impl Drop for GivenUp {
    fn drop(&mut self) {
        self.0.arrive();
    }
}

async fn wait(parts: &Parts, here: Stop) {
    if ask(&parts.headers).stop == Some(here) {
        let no = parts.headers[NO]
            .to_str()
            .ok()
            .and_then(|no| no.parse().ok());
        let stops = parts.extensions.get::<Stops>().expect("it is there");
        let waiting = stops.lock().expect("nobody panics with it")[&no.expect("a number")].clone();
        let given_up = GivenUp(waiting.gone);
        waiting.gate.pass().await;
        std::mem::forget(given_up);
    }
}

/// Whoever the session says.
struct User(Option<String>);

impl SessionUser for User {
    fn is_authenticated(&self) -> bool {
        self.0.is_some()
    }

    fn is_staff(&self) -> bool {
        self.0.as_deref() == Some("staff")
    }

    fn is_superuser(&self) -> bool {
        self.0.as_deref() == Some("superuser")
    }
}

impl<S: Sync> FromRequestParts<S> for User {
    type Rejection = StatusCode;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, StatusCode> {
        wait(parts, Stop::LookUp).await;
        let session = parts.extensions.get::<Session>().expect("it is there");
        let role = session.get("role").await;
        role.map(Self)
            .map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)
    }
}

/// What a handler needs to do what the test asks for.
struct Doing {
    session: Session,
    lifetime: SessionLifetime,
    ask: Ask,
    no: No,
    clock: Clock,
    parts: Parts,
}

impl<S: Sync> FromRequestParts<S> for Doing {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Response> {
        let no = parts.headers[NO]
            .to_str()
            .ok()
            .and_then(|no| no.parse().ok());
        Ok(Self {
            session: parts.extensions.get().cloned().expect("it is there"),
            lifetime: SessionLifetime::from_request_parts(parts, state).await?,
            ask: ask(&parts.headers),
            no: no.expect("a number"),
            clock: parts.extensions.get().cloned().expect("it is there"),
            parts: parts.clone(),
        })
    }
}

impl Doing {
    async fn answer(self, info: Option<RefreshInfo>) -> Response {
        wait(&self.parts, Stop::Handler).await;
        let done = self.act().await;
        let (status, saw) = match done {
            Ok(saw) if self.ask.act != Act::Fail => (StatusCode::OK, saw),
            _ => (StatusCode::INTERNAL_SERVER_ERROR, None),
        };
        let saw = serde_json::to_string(&saw).expect("text can be written");
        let mut response = (status, saw).into_response();
        let headers = response.headers_mut();
        let mut tell = |name, value: String| {
            headers.insert(name, value.parse().expect("ASCII"));
        };
        if let Some(id) = self.session.id() {
            tell(SESSION, id.to_string());
        }
        if let Some(info) = info {
            let expires_at = info.expires_at.map(OffsetDateTime::unix_timestamp_nanos);
            tell(TOLD, format!("{} {expires_at:?}", info.outcome));
        }
        if self.ask.is_shareable {
            tell("cache-control", "public, max-age=60".into());
        }
        response
    }

    async fn act(&self) -> Result<Option<Data>, tower_sessions::session::Error> {
        let Self {
            session, lifetime, ..
        } = self;
        let written = self.no.to_string();
        match self.ask.act {
            Act::Nothing => {}
            Act::Read => return self.read().await.map(Some),
            Act::Write | Act::Fail => session.insert("written", written).await?,
            Act::Undo => {
                session.insert("undone", written).await?;
                session.remove::<String>("undone").await?;
            }
            Act::Save => session.save().await?,
            Act::SetExpiry(said) => {
                session.get_value("role").await?;
                self.set_expiry(said);
            }
            Act::LogIn(role, said) => {
                session.cycle_id().await?;
                session.insert("role", role.name()).await?;
                lifetime.restart();
                self.set_expiry(said);
            }
            Act::LogOut => session.flush().await?,
            Act::CycleId => session.cycle_id().await?,
            Act::Clear => session.clear().await,
            Act::FlushAnew => {
                session.flush().await?;
                session.insert("role", "user").await?;
            }
            Act::Restart => lifetime.restart(),
            Act::OwnLimit(max) => lifetime.set_max_lifetime(max.map(Duration::hours)),
        }
        Ok(None)
    }

    async fn read(&self) -> Result<Data, tower_sessions::session::Error> {
        let mut data = Data::new();
        for key in ["role", "written", "undone", "session_refresh.lifetime"] {
            let value = self.session.get::<String>(key).await?;
            data.extend(value.map(|value| (key.to_owned(), value)));
        }
        Ok(data)
    }

    fn set_expiry(&self, said: Said) {
        let expiry = match said {
            Said::Nothing => return,
            Said::Layers => None,
            Said::Idle(idle) => Some(Expiry::OnInactivity(Duration::hours(idle))),
            // By the clock that the layer goes by.
            Said::Fixed(left) => Some(Expiry::AtDateTime(self.clock.at(self.clock.hours() + left))),
            Said::Browser => Some(Expiry::OnSessionEnd),
        };
        self.session.set_expiry(expiry);
    }
}

fn always(_: &Parts) -> bool {
    true
}

async fn unannotated(doing: Doing) -> Response {
    doing.answer(None).await
}

/// A handler for each word of the attribute.
macro_rules! handlers {
    ($($name:ident($($words:tt)*);)*) => {$(
        #[session_refresh($($words)*)]
        async fn $name(info: RefreshInfo, doing: Doing) -> Response {
            doing.answer(Some(info)).await
        }
    )*};
}

handlers! {
    active(interval = "24h");
    passive(interval = "24h", passive);
    skip_path(interval = "24h", skip_paths("/SkipPath"));
    skip_if(interval = "24h", skip_if = always);
    skip_unauthenticated(interval = "24h", skip_unauthenticated, user = User);
    skip_staff(interval = "24h", skip_staff, user = User);
    skip_superuser(interval = "24h", skip_superuser, user = User);
}

/// One of the processes.
#[derive(Debug)]
struct Server<S: SessionStore + Touch + Clone> {
    site: Site<Stack<S>>,
    clock: Clock,
}

/// All of it, and what the test remembers to compare it with the model.
#[derive(Debug)]
pub struct System<B: Backend> {
    backend: B,
    store: Faulty<B::Touching>,
    servers: Vec<Server<B::Touching>>,
    began: OffsetDateTime,
    stops: Stops,
    under_way: HashMap<No, JoinHandle<Seen>>,
    /// The real ids of the model's sessions.
    ids: HashMap<No, Id>,
    http: reqwest::Client,
}

impl<B: Backend> System<B> {
    pub async fn start(backend: B, processes: &[Process]) -> Self {
        let store = Faulty::new(backend.touching());
        let mut system = Self {
            backend,
            store,
            servers: Vec::new(),
            // Whole seconds, which every store keeps.
            began: OffsetDateTime::now_utc()
                .replace_nanosecond(0)
                .expect("zero is in range"),
            stops: Stops::default(),
            under_way: HashMap::new(),
            ids: HashMap::from([(MADE_UP, Id::default())]),
            http: reqwest::Client::builder()
                .build()
                .expect("a plain client can be built"),
        };
        for process in processes {
            let clock = Clock {
                began: system.began,
                hours: Arc::new(AtomicI64::new(process.skew)),
            };
            let site = system.serve(&clock, &process.layer).await;
            system.servers.push(Server { site, clock });
        }
        system
    }

    async fn serve(&self, clock: &Clock, layer: &Layer) -> Site<Stack<B::Touching>> {
        let routes = Router::new()
            .route("/Unannotated", get(unannotated))
            .route("/Active", get(active))
            .route("/Passive", get(passive))
            .route("/Prefetch", get(active))
            .route("/SkipPath", get(skip_path))
            .route("/SkipIf", get(skip_if))
            .route("/SkipUnauthenticated", get(skip_unauthenticated))
            .route("/SkipStaff", get(skip_staff))
            .route("/SkipSuperuser", get(skip_superuser))
            .layer(Extension(clock.clone()))
            .layer(Extension(Arc::clone(&self.stops)));
        let stack = Stack {
            store: self.store.clone(),
            clock: clock.clone(),
            max_lifetime: layer.max_lifetime,
        };
        let setup = Setup::new(routes)
            .without_user_source()
            .expiry(Expiry::OnInactivity(Duration::hours(layer.idle)))
            .on(stack);
        setup.start().await
    }

    pub async fn deploy(&mut self, process: usize, layer: &Layer) {
        let site = self.serve(&self.servers[process].clock, layer).await;
        self.servers[process].site = site;
    }

    pub fn pass(&self, hours: Hours) {
        for server in &self.servers {
            server.clock.advance(hours);
        }
    }

    /// Ends a session by the store's clock.
    pub async fn end(&self, no: No) {
        let Some(id) = self.ids.get(&no) else { return };
        if let Some(mut record) = self.store.store.load(id).await.expect("the store is up") {
            record.expiry_date = OffsetDateTime::now_utc() - Duration::HOUR;
            self.backend
                .plain()
                .save(&record)
                .await
                .expect("the store is up");
        }
    }

    pub async fn sweep(&self) {
        self.backend.sweep().await;
    }

    pub async fn land(&self, late: usize) {
        self.store.land(late).await;
    }

    /// What the processes have asked of the store since the last time; looks are loads.
    pub fn asked(&self) -> Asked {
        let mut asked = Asked::default();
        for server in &self.servers {
            let counts = server.site.counts();
            asked.creates += counts.creates;
            asked.loads += counts.loads;
            asked.saves += counts.saves;
            asked.touches += counts.touches;
            asked.deletes += counts.deletes;
        }
        asked
    }

    /// Sends a request, which is then under way.
    pub fn send(&mut self, no: No, ask: &Ask, cookie: Option<No>) {
        let origin = self.servers[ask.process].site.visitor().origin().to_owned();
        let mut request = (self.http.get(format!("{origin}/{:?}", ask.policy)))
            .header(
                ASK,
                serde_json::to_string(ask).expect("text can be written"),
            )
            .header(NO, no.to_string());
        let id = cookie.map(|cookie| self.ids[&cookie]);
        if let Some(id) = id {
            request = request.header("cookie", format!("id={id}"));
        }
        if ask.policy == Policy::Prefetch {
            request = request.header("sec-purpose", "prefetch");
        }
        self.store.touches().next = id
            .filter(|_| ask.fault == Some(Fault::TouchIsLate))
            .map(SessionId::from);
        self.stops
            .lock()
            .expect("nobody panics with it")
            .insert(no, Waiting::default());
        let answer = tokio::spawn(async move {
            let response = request.send().await.expect("the server answers");
            let (status, headers) = (response.status(), response.headers().clone());
            let text = response
                .text()
                .await
                .expect("the server answers to the end");
            Seen {
                status,
                headers,
                text,
            }
        });
        self.under_way.insert(no, answer);
    }

    fn waiting(&self, no: No) -> Waiting {
        self.stops.lock().expect("nobody panics with it")[&no].clone()
    }

    /// Waits until a request has come to its stop.
    ///
    /// # Panics
    /// If it is answered instead.
    pub async fn stopped(&mut self, no: No) {
        let waiting = self.waiting(no);
        let answer = self.under_way.get_mut(&no).expect("it is under way");
        tokio::select! {
            answer = in_time(answer) => panic!("{no} did not stop, but was answered: {answer:?}"),
            () = waiting.gate.arrived() => {}
        }
    }

    pub fn go_on(&self, no: No) {
        self.waiting(no).gate.open();
    }

    pub async fn give_up(&mut self, no: No) {
        self.under_way.remove(&no).expect("it is under way").abort();
        in_time(self.waiting(no).gone.arrived()).await;
    }

    pub async fn answered(&mut self, no: No) -> Seen {
        let answer = self.under_way.remove(&no).expect("it is under way");
        self.stops
            .lock()
            .expect("nobody panics with it")
            .remove(&no);
        let seen = in_time(answer).await;
        self.store.touches().next = None;
        seen.expect("the server answers")
    }

    /// Learns which real session the model's is.
    fn learn(&mut self, no: No, id: Id) {
        if !self.ids.values().any(|known| *known == id) {
            self.ids.insert(no, id);
        }
    }

    fn no(&self, id: &str) -> Option<No> {
        let id: Id = id.parse().ok()?;
        self.ids
            .iter()
            .find(|(_, known)| **known == id)
            .map(|(no, _)| *no)
    }

    /// A request's answer in the model's words. A session that nobody knew is the one that this request has created.
    pub fn read(&mut self, no: No, seen: &Seen) -> Answer {
        let sent = seen.set_cookie().strip_prefix("id=");
        let sent = sent.and_then(|rest| rest.split(';').next());
        for id in [sent.unwrap_or_default(), seen.header(SESSION)] {
            if let Ok(id) = id.parse() {
                self.learn(no, id);
            }
        }
        let cookie = match sent {
            None => Cookie::None,
            Some("") => Cookie::Removed,
            Some(id) => {
                let no = self.no(id).expect("it was learnt");
                Cookie::Sent(no, seen.cookie_age().map(hours))
            }
        };
        let at = |at: OffsetDateTime| hours(at - self.began);
        let known = OUTCOMES.iter().find(|known| **known == seen.outcome());
        assert!(known.is_some() || seen.outcome().is_empty(), "{seen:?}");
        let info = known.map(|outcome| Info {
            outcome,
            refreshed_at: seen.refreshed_at().map(at),
            expires_at: seen.expires_at().map(at),
            ends_at: seen.ends_at().map(at),
        });
        // What the handler was told is what came of it.
        if let Some(info) = info {
            let expires_at = seen.expires_at().map(OffsetDateTime::unix_timestamp_nanos);
            let told = seen.header(TOLD);
            assert_eq!(told, format!("{} {expires_at:?}", info.outcome));
        }
        let has_failed = seen.status.is_server_error();
        assert!(has_failed || seen.status == StatusCode::OK, "{seen:?}");
        let saw = (!has_failed)
            .then(|| serde_json::from_str(&seen.text).expect("data"))
            .flatten();
        Answer {
            has_failed,
            info,
            saw,
            cookie,
        }
    }

    /// What the store has, but for what has ended by its own clock.
    pub async fn stored(&self) -> BTreeMap<No, Record> {
        let mut found = BTreeMap::new();
        for (no, id) in &self.ids {
            let record = self.store.store.load(id).await.expect("the store is up");
            found.extend(record.map(|record| (*no, self.record(record))));
        }
        found
    }

    fn record(&self, mut record: StoredRecord) -> Record {
        let kept = record.data.remove("session_refresh.lifetime");
        let mut terms = Terms::default();
        let length = |value: &str| Duration::milliseconds(value.parse().expect("milliseconds"));
        let since_began =
            |value: &str| hours(OffsetDateTime::UNIX_EPOCH + length(value) - self.began);
        for word in kept
            .iter()
            .flat_map(|kept| kept.as_str().expect("text").split(' '))
        {
            match word.split_once('=').unwrap_or((word, "")) {
                ("browser", "") => terms.own = Own::Browser,
                ("idle", value) => terms.own = Own::Idle(hours(length(value))),
                ("end", value) => terms.own = Own::Until(since_began(value)),
                ("from", value) => terms.started = Some(since_began(value)),
                ("max", value) => terms.own_max = Some(hours(length(value))),
                _ => panic!("{kept:?}"),
            }
        }
        let text = |value: serde_json::Value| value.as_str().expect("text").to_owned();
        Record {
            data: record
                .data
                .into_iter()
                .map(|(key, value)| (key, text(value)))
                .collect(),
            expires: hours(record.expiry_date - self.began),
            terms,
        }
    }
}

const OUTCOMES: [&str; 13] = [
    "refreshed",
    "not_due",
    "gone",
    "unavailable",
    "no_session",
    "unauthenticated",
    "staff",
    "superuser",
    "path",
    "predicate",
    "passive",
    "prefetch",
    "fixed_expiry",
];

/// A request that waits where the model's does not would wait for ever.
async fn in_time<F: Future>(future: F) -> F::Output {
    let in_time = tokio::time::timeout(std::time::Duration::from_secs(60), future).await;
    in_time.expect("the application stops nowhere else than the model")
}

/// Every time is a whole hour.
fn hours(duration: Duration) -> Hours {
    let hours = duration.whole_hours();
    assert_eq!(duration, Duration::hours(hours), "whole hours");
    hours
}
