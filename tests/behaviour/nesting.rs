//! One load, one touch: whoever reads first, and under whatever layers.

use axum::{
    Router,
    body::Body,
    routing::{any_service, get, post},
};
use axum_login::{AuthManagerLayerBuilder, AuthUser, AuthnBackend};
use http::Request;
use session_refresh::{
    LifetimeLayer, Policy, RefreshInfo, RefreshLayer, session_refresh,
    store::{Serialized, Touch},
};
use session_refresh_tests::{
    Client, CountingStore, Counts, Server, TestClock,
    backends::{Backend as _, Sqlite},
    login_routes,
};
use std::convert::Infallible;
use time::Duration;
use tower::{Layer as _, ServiceExt as _, service_fn};
use tower_sessions::{
    Expiry, MemoryStore, Session, SessionManagerLayer, SessionStore, service::PlaintextCookie,
};
use tower_sessions_0_15 as newer;

use crate::only_loads;

const TOUCHED: Counts = Counts {
    touches: 1,
    ..only_loads(1)
};

#[session_refresh]
async fn silent() {}

#[session_refresh]
async fn reads(session: Session) -> String {
    session.get("role").await.unwrap().unwrap_or_default()
}

#[session_refresh]
async fn told(refresh: RefreshInfo) -> String {
    refresh.outcome.to_string()
}

fn routes() -> Router {
    Router::new()
        .route("/silent", get(silent))
        .route("/reads", get(reads))
        .route("/told", get(told))
        .route("/plain", get(async || ()))
        .merge(login_routes())
}

/// Somebody who logged in under `prefix`.
async fn login(server: &Server, prefix: &str) -> Client {
    let client = server.client();
    client.post(&format!("{prefix}/login/user")).await;
    client
}

/// A visitor costs nothing, a page that is not due a load, one that is due a load and a touch.
async fn assert_costs<S>(
    server: &Server,
    prefix: &str,
    store: &CountingStore<S>,
    clock: &TestClock,
) {
    for page in ["silent", "reads", "told"] {
        let path = format!("{prefix}/{page}");
        let client = login(server, prefix).await;
        let _ = store.take();
        assert_eq!(server.client().get(&path).await.outcome(), "no_session");
        assert_eq!(store.take(), only_loads(0), "{path}, visitor");
        assert_eq!(client.get(&path).await.outcome(), "not_due");
        assert_eq!(store.take(), only_loads(1), "{path}, not due");
        clock.advance(Duration::DAY);
        let answer = client.get(&path).await;
        assert_eq!(answer.outcome(), "refreshed");
        assert!(!answer.set_cookie().is_empty());
        assert_eq!(store.take(), TOUCHED, "{path}, due");
    }
}

/// A layer whose cookie has this name.
fn named<S: SessionStore>(store: S, name: &'static str) -> SessionManagerLayer<S, PlaintextCookie> {
    SessionManagerLayer::new(store)
        .with_secure(false)
        .with_name(name)
        .with_expiry(Expiry::OnInactivity(Duration::days(14)))
}

fn memory() -> CountingStore<Serialized<MemoryStore>> {
    CountingStore::new(Serialized::new(MemoryStore::default()))
}

#[tokio::test]
async fn a_request_costs_one_load_and_if_due_one_touch() {
    let (store, clock) = (memory(), TestClock::default());
    let sessions = LifetimeLayer::new(store.clone(), |store| named(store, "id"));
    let app = routes().layer(sessions.with_clock(clock.as_fn()));
    let server = Server::start(app).await;
    assert_costs(&server, "", &store, &clock).await;
    let client = login(&server, "").await;
    let _ = store.take();
    client.get("/plain").await;
    assert_eq!(
        store.take(),
        only_loads(0),
        "a page without annotation or session"
    );
}

#[tokio::test]
async fn the_same_where_the_store_keeps_bytes() {
    let sqlite = Sqlite::connect().await;
    let (store, clock) = (CountingStore::new(sqlite.touching()), TestClock::default());
    let sessions = LifetimeLayer::new(store.clone(), |store| named(store, "id"));
    let app = routes().layer(sessions.with_clock(clock.as_fn()));
    let server = Server::start(app).await;
    assert_costs(&server, "", &store, &clock).await;
}

#[tokio::test]
async fn the_same_in_a_nested_router_and_around_a_group() {
    let (store, clock) = (memory(), TestClock::default());
    let sessions = LifetimeLayer::new(store.clone(), |store| named(store, "id"));
    let group = Router::new()
        .route("/silent", get(async || ()))
        .route(
            "/reads",
            get(async |session: Session| {
                let role: Option<String> = session.get("role").await.unwrap();
                role.unwrap_or_default()
            }),
        )
        .route(
            "/told",
            get(async |refresh: RefreshInfo| refresh.outcome.to_string()),
        )
        .layer(RefreshLayer::new().policy(Policy::new()))
        .merge(login_routes())
        .layer(sessions.with_clock(clock.as_fn()));
    let server = Server::start(Router::new().nest("/in", group)).await;
    assert_costs(&server, "/in", &store, &clock).await;
}

#[tokio::test]
async fn under_two_layers_the_inner_ones_session_is_refreshed_and_the_outer_ones_left_alone() {
    let (outer, inner, clock) = (memory(), memory(), TestClock::default());
    let inner_layer = LifetimeLayer::new(inner.clone(), |store| named(store, "inner"));
    let outer_layer = LifetimeLayer::new(outer.clone(), |store| named(store, "outer"));
    let app = Router::new()
        .nest("/in", routes().layer(inner_layer.with_clock(clock.as_fn())))
        .merge(routes())
        .layer(outer_layer.with_clock(clock.as_fn()));
    let server = Server::start(app).await;
    assert_costs(&server, "/in", &inner, &clock).await;
    assert_eq!(outer.take(), only_loads(0));
    assert_costs(&server, "", &outer, &clock).await;
    assert_eq!(inner.take(), only_loads(0));

    // With a session of each, only the inner one's.
    let client = login(&server, "").await;
    client.post("/in/login/user").await;
    clock.advance(Duration::DAY);
    let (_, _) = (outer.take(), inner.take());
    let answer = client.get("/in/silent").await;
    assert!(answer.set_cookie().starts_with("inner="), "{answer:?}");
    assert_eq!((outer.take(), inner.take()), (only_loads(0), TOUCHED));
}

#[tokio::test]
async fn a_plain_layer_inside_of_ours_has_a_session_of_its_own() {
    let (outer, clock) = (memory(), TestClock::default());
    let inner = CountingStore::new(MemoryStore::default());
    let outer_layer = LifetimeLayer::new(outer.clone(), |store| named(store, "outer"));
    let app = Router::new()
        .nest("/in", routes().layer(named(inner.clone(), "inner")))
        .merge(routes())
        .layer(outer_layer.with_clock(clock.as_fn()))
        .layer(RefreshLayer::new().clock(clock.as_fn()));
    let server = Server::start(app).await;
    let client = login(&server, "").await;
    client.post("/in/login/user").await;
    clock.advance(Duration::DAY);
    let _ = outer.take();
    let answer = client.get("/in/silent").await;
    assert_eq!(answer.outcome(), "refreshed");
    assert!(answer.set_cookie().starts_with("inner="), "{answer:?}");
    assert_eq!(inner.take().saves, 1, "a stamp");
    assert_eq!(outer.take(), only_loads(0));
}

#[tokio::test]
async fn a_layer_of_either_release_inside_of_one_of_the_other_refreshes_its_own_sessions() {
    async fn newer_login(session: newer::Session) {
        session.insert("role", "user").await.unwrap();
    }
    let (older_store, clock) = (memory(), TestClock::default());
    let newer_store = CountingStore::new(Serialized::new(newer::MemoryStore::default()));
    let older = LifetimeLayer::new(older_store.clone(), |store| named(store, "older"))
        .with_clock(clock.as_fn());
    let newer = LifetimeLayer::new(newer_store.clone(), |store| {
        newer::SessionManagerLayer::new(store)
            .with_secure(false)
            .with_name("newer")
    })
    .with_clock(clock.as_fn());
    let newer_routes = Router::new()
        .route("/silent", get(silent))
        .route("/login", post(newer_login))
        .layer(newer);
    let app = Router::new()
        .merge(routes().layer(older.clone()))
        .nest("/newer", newer_routes.clone())
        .nest("/both", newer_routes.layer(older));
    let server = Server::start(app).await;
    assert_costs(&server, "", &older_store, &clock).await;

    let client = server.client();
    client.post("/newer/login").await;
    clock.advance(Duration::DAY);
    let _ = newer_store.take();
    let answer = client.get("/newer/silent").await;
    assert!(answer.set_cookie().starts_with("newer="), "{answer:?}");
    assert_eq!(newer_store.take(), TOUCHED);

    // Where a route has both, the older one's session counts. It has none there.
    clock.advance(Duration::DAY);
    assert_eq!(client.get("/both/silent").await.outcome(), "no_session");
    client.post("/login/user").await;
    clock.advance(Duration::DAY);
    let (_, _) = (older_store.take(), newer_store.take());
    let answer = client.get("/both/silent").await;
    assert!(answer.set_cookie().starts_with("older="), "{answer:?}");
    assert_eq!(
        (older_store.take(), newer_store.take()),
        (TOUCHED, only_loads(0))
    );
}

#[derive(Clone, Debug)]
struct User;

impl AuthUser for User {
    type Id = i64;

    fn id(&self) -> i64 {
        1
    }

    fn session_auth_hash(&self) -> &[u8] {
        b"hash"
    }
}

#[derive(Clone, Debug)]
struct Users;

impl AuthnBackend for Users {
    type User = User;
    type Credentials = ();
    type Error = Infallible;

    async fn authenticate(&self, (): ()) -> Result<Option<User>, Infallible> {
        Ok(Some(User))
    }

    async fn get_user(&self, _: &i64) -> Result<Option<User>, Infallible> {
        Ok(Some(User))
    }
}

#[tokio::test]
async fn axum_logins_own_read_shares_the_load() {
    let (store, clock) = (memory(), TestClock::default());
    let sessions = LifetimeLayer::new(store.clone(), |store| {
        AuthManagerLayerBuilder::new(Users, named(store, "id")).build()
    });
    let app = routes().layer(sessions.with_clock(clock.as_fn()));
    let server = Server::start(app).await;
    assert_costs(&server, "", &store, &clock).await;
}

#[tokio::test]
async fn cookies_may_be_signed_or_private_by_a_key_from_outside_of_the_closure() {
    use tower_sessions::cookie::Key;

    async fn holds<S: Touch + SessionStore + Clone>(
        store: CountingStore<S>,
        clock: TestClock,
        app: Router,
    ) {
        let server = Server::start(app).await;
        let client = login(&server, "").await;
        clock.advance(Duration::DAY);
        let _ = store.take();
        let answer = client.get("/reads").await;
        assert_eq!(
            (answer.text.as_str(), answer.outcome()),
            ("user", "refreshed")
        );
        assert_eq!(store.take(), TOUCHED);
        assert_eq!(client.get("/reads").await.text, "user");
    }

    let key = Key::generate();
    let (store, clock) = (memory(), TestClock::default());
    let signing = key.clone();
    let sessions = LifetimeLayer::new(store.clone(), move |store| {
        named(store, "id").with_signed(signing.clone())
    });
    let app = routes().layer(sessions.with_clock(clock.as_fn()));
    holds(store, clock, app).await;

    let (store, clock) = (memory(), TestClock::default());
    let sessions = LifetimeLayer::new(store.clone(), move |store| {
        named(store, "id").with_private(key.clone())
    });
    let app = routes().layer(sessions.with_clock(clock.as_fn()));
    holds(store, clock, app).await;
}

/// The layer around a service that knows nothing of axum, and a group's policy inside of it.
#[tokio::test]
async fn any_tower_service_may_be_inside() {
    let service = service_fn(crate::groups::tell_as_service);
    let (store, clock) = (memory(), TestClock::default());
    let sessions =
        LifetimeLayer::new(store.clone(), |store| named(store, "id")).with_clock(clock.as_fn());
    let service = sessions.layer(RefreshLayer::new().policy(Policy::new()).layer(service));
    // Without axum …
    let answer = service
        .clone()
        .oneshot(Request::new(Body::empty()))
        .await
        .unwrap();
    let body = axum::body::to_bytes(answer.into_body(), 100).await.unwrap();
    assert_eq!(body, "no_session");
    // … and routed by it.
    let app = Router::new()
        .route("/a", any_service(service))
        .merge(login_routes().layer(sessions));
    let server = Server::start(app).await;
    let client = login(&server, "").await;
    clock.advance(Duration::DAY);
    for outcome in ["refreshed", "not_due"] {
        let answer = client.get("/a").await;
        assert_eq!((answer.text.as_str(), answer.outcome()), (outcome, outcome));
    }
}
