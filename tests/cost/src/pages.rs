//! One page, in every way to keep the session alive.

use axum::{Router, extract::Path, routing::get};
use axum_login::{AuthManagerLayerBuilder, AuthSession};
use session_refresh::{
    LifetimeLayer, RefreshInfo, session_refresh,
    store::{IntoTouch, Touch},
};
use time::{Duration, OffsetDateTime};
use tower_sessions::{Expiry, Session, SessionManagerLayer, SessionStore};

use crate::{accounts::Accounts, data, stamps};

/// The name of the session's cookie.
pub const COOKIE: &str = "id";
/// How long a session lives after its last write.
pub const LIFETIME: Duration = Duration::weeks(2);
/// How often it is refreshed at most.
pub const INTERVAL: Duration = Duration::hours(24);

/// How the page keeps its session alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Not at all: what everything else is measured against.
    Floor,
    /// A stamp in the session, as applications write it today.
    ByHand,
    /// tower-sessions' `always_save`.
    AlwaysSave,
    /// The attribute. Which way it refreshes depends on the layer.
    Attribute,
    /// The attribute, and the handler takes a `RefreshInfo`.
    Told,
    /// Not at all, with axum-login.
    LoginFloor,
    /// The attribute with axum-login.
    Login,
}

impl Way {
    fn has_login(self) -> bool {
        matches!(self, Self::LoginFloor | Self::Login)
    }
}

/// The pages under tower-sessions' layer alone.
pub fn pages<S: SessionStore + Clone>(way: Way, store: S) -> Router {
    let sessions = sessions(way, store);
    if way.has_login() {
        routes(way).layer(AuthManagerLayerBuilder::new(Accounts, sessions).build())
    } else {
        routes(way).layer(sessions)
    }
}

/// The pages under a [`LifetimeLayer`].
pub fn lifetime_pages<S, W>(way: Way, store: impl IntoTouch<W, Store = S>) -> Router
where
    S: Touch + SessionStore,
{
    if way.has_login() {
        routes(way).layer(LifetimeLayer::new(store, move |store| {
            AuthManagerLayerBuilder::new(Accounts, sessions(way, store)).build()
        }))
    } else {
        routes(way).layer(LifetimeLayer::new(store, move |store| sessions(way, store)))
    }
}

/// tower-sessions' layer, as each way sets it.
pub fn sessions<S: SessionStore>(way: Way, store: S) -> SessionManagerLayer<S> {
    SessionManagerLayer::new(store)
        .with_expiry(Expiry::OnInactivity(LIFETIME))
        .with_always_save(way == Way::AlwaysSave)
}

/// The page at `/`, and `/start/{bytes}` that begins a session of that size.
pub fn routes(way: Way) -> Router {
    let page = match way {
        Way::Floor | Way::AlwaysSave => get(floor),
        Way::ByHand => get(by_hand),
        Way::Attribute => get(attribute),
        Way::Told => get(told),
        Way::LoginFloor => get(login_floor),
        Way::Login => get(login),
    };
    Router::new()
        .route("/", page)
        .route("/start/{bytes}", get(start))
}

/// A session that was refreshed just now, however that is remembered.
async fn start(Path(bytes): Path<usize>, session: Session) {
    let stamps = stamps(OffsetDateTime::now_utc());
    for (key, value) in data(bytes).into_iter().chain(stamps) {
        session
            .insert_value(&key, value)
            .await
            .expect("a new session has no record to load");
    }
}

/// What every page does: it reads one key.
async fn read(session: Session) -> String {
    session
        .get("name")
        .await
        .expect("the session is loaded")
        .unwrap_or_default()
}

async fn floor(session: Session) -> String {
    read(session).await
}

async fn by_hand(session: Session) -> String {
    let now = OffsetDateTime::now_utc().unix_timestamp();
    let last: Option<i64> = session
        .get("refreshed_at")
        .await
        .expect("the session is loaded");
    if last.is_none_or(|last| now - last >= INTERVAL.whole_seconds()) {
        session
            .insert("refreshed_at", now)
            .await
            .expect("the session is loaded");
    }
    read(session).await
}

#[session_refresh(interval = "24h")]
async fn attribute(session: Session) -> String {
    read(session).await
}

#[session_refresh(interval = "24h")]
async fn told(refresh: RefreshInfo, session: Session) -> String {
    std::hint::black_box(refresh);
    read(session).await
}

async fn login_floor(auth: AuthSession<Accounts>, session: Session) -> String {
    std::hint::black_box(auth);
    read(session).await
}

#[session_refresh(interval = "24h", user = AuthSession<Accounts>, skip_staff)]
async fn login(auth: AuthSession<Accounts>, session: Session) -> String {
    std::hint::black_box(auth);
    read(session).await
}
