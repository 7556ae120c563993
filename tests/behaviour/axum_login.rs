//! axum-login: `AuthSession<B>` says who the user is, and logs in and out inside annotated handlers.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use axum::{Extension, Router, extract::Path, routing::get};
use axum_login::{AuthManagerLayerBuilder, AuthUser, AuthnBackend};
use http::StatusCode;
use session_refresh::{
    RefreshInfo, RefreshLayer, SessionUser, session_refresh, store::RefreshStore,
};
use session_refresh_tests::{CountingStore, Gate, Server, TestClock, backends, on_every_store};
use time::ext::NumericalDuration as _;
use tower_sessions::{SessionManagerLayer, SessionStore};

/// Everybody is a user, under the name of a role.
#[derive(Clone, Debug, Default)]
struct Backend {
    lookups: Arc<AtomicUsize>,
}

#[derive(Clone, Debug)]
struct User {
    role: String,
}

type AuthSession = axum_login::AuthSession<Backend>;

impl AuthUser for User {
    type Id = String;

    fn id(&self) -> String {
        self.role.clone()
    }

    fn session_auth_hash(&self) -> &[u8] {
        self.role.as_bytes()
    }
}

impl SessionUser for User {
    fn is_staff(&self) -> bool {
        self.role == "staff"
    }

    fn is_superuser(&self) -> bool {
        self.role == "superuser"
    }
}

impl AuthnBackend for Backend {
    type User = User;
    type Credentials = String;
    type Error = Infallible;

    async fn authenticate(&self, role: String) -> Result<Option<User>, Infallible> {
        Ok(Some(User { role }))
    }

    async fn get_user(&self, role: &String) -> Result<Option<User>, Infallible> {
        self.lookups.fetch_add(1, Ordering::SeqCst);
        Ok(Some(User { role: role.clone() }))
    }
}

#[session_refresh(interval = "1h", skip_staff, skip_superuser)]
async fn from_layer(refresh: RefreshInfo) -> String {
    refresh.outcome.to_string()
}

#[session_refresh(interval = "1h", user = AuthSession, skip_staff, skip_superuser)]
async fn named(session: AuthSession) -> String {
    session.user.map(|user| user.role).unwrap_or_default()
}

#[session_refresh(interval = "1h")]
async fn login(mut session: AuthSession, Path(role): Path<String>) {
    session.login(&User { role }).await.unwrap();
}

#[session_refresh(interval = "1h")]
async fn logout(mut session: AuthSession) {
    session.logout().await.unwrap();
}

#[session_refresh(interval = "1h")]
async fn slow(Extension(gate): Extension<Gate>) {
    gate.pass().await;
}

async fn plain_logout(mut session: AuthSession) {
    session.logout().await.unwrap();
}

struct Site<S> {
    server: Server,
    store: CountingStore<S>,
    backend: Backend,
    clock: TestClock,
    gate: Gate,
}

async fn site<S: SessionStore + Clone>(store: S) -> Site<S> {
    let store = CountingStore::new(store);
    let (backend, clock, gate) = (Backend::default(), TestClock::default(), Gate::default());
    let sessions = SessionManagerLayer::new(store.clone()).with_secure(false);
    let app = Router::new()
        .route("/layer", get(from_layer))
        .route("/named", get(named))
        .route("/login/{role}", get(login))
        .route("/logout", get(logout))
        .route("/plain_logout", get(plain_logout))
        .route("/slow", get(slow))
        .layer(
            RefreshLayer::new()
                .user::<AuthSession>()
                .clock(clock.as_fn()),
        )
        .layer(Extension(gate.clone()))
        .layer(AuthManagerLayerBuilder::new(backend.clone(), sessions).build());
    Site {
        server: Server::start(app).await,
        store,
        backend,
        clock,
        gate,
    }
}

on_each_store![
    an_auth_session_says_who_the_user_is,
    a_refresh_shares_the_load_and_the_look_up_that_axum_login_makes_anyway,
    a_login_and_a_logout_work_inside_annotated_handlers,
    a_logout_while_a_slow_page_refreshes_stays_a_logout,
];

async fn an_auth_session_says_who_the_user_is<S: SessionStore + Clone>(store: S) {
    let site = site(store).await;
    for path in ["/layer", "/named"] {
        let visitor = site.server.client();
        assert_eq!(visitor.get(path).await.outcome(), "no_session");
        for (role, outcome) in [
            ("user", "refreshed"),
            ("staff", "staff"),
            ("superuser", "superuser"),
        ] {
            let client = site.server.client();
            client.get(&format!("/login/{role}")).await;
            let answer = client.get(path).await;
            assert_eq!((answer.status, answer.outcome()), (StatusCode::OK, outcome));
        }
    }
}

async fn a_refresh_shares_the_load_and_the_look_up_that_axum_login_makes_anyway<
    S: SessionStore + Clone,
>(
    store: S,
) {
    let site = site(store).await;
    let client = site.server.client();
    client.get("/login/user").await;
    for path in ["/layer", "/named"] {
        for outcome in ["refreshed", "not_due"] {
            let _ = site.store.take();
            let lookups = site.backend.lookups.load(Ordering::SeqCst);
            assert_eq!(client.get(path).await.outcome(), outcome);
            let counts = site.store.take();
            assert!(counts.loads <= 2, "{counts:?}");
            assert_eq!(counts.saves, usize::from(outcome == "refreshed"));
            assert_eq!(counts.creates, 0);
            if outcome == "not_due" {
                assert_eq!(counts, crate::only_loads(1));
            }
            assert_eq!(site.backend.lookups.load(Ordering::SeqCst), lookups + 1);
        }
        site.clock.advance(1.hours());
    }
}

async fn a_login_and_a_logout_work_inside_annotated_handlers<S: SessionStore + Clone>(store: S) {
    let site = site(store).await;
    let client = site.server.client();
    for role in ["user", "other", "staff"] {
        let answer = client.get(&format!("/login/{role}")).await;
        assert_eq!(
            (answer.status, answer.outcome()),
            (StatusCode::OK, "no_session")
        );
        assert_eq!(client.get("/named").await.text, role);

        // Somebody else on top, in the same session.
        site.clock.advance(1.hours());
        client.get("/login/another").await;
        assert_eq!(client.get("/named").await.text, "another");

        site.clock.advance(1.hours());
        let id = client.session_id().unwrap();
        let _ = site.store.take();
        let answer = client.get("/logout").await;
        assert_eq!((answer.status, answer.outcome()), (StatusCode::OK, "gone"));
        assert!(answer.removes_cookie(), "{answer:?}");
        let counts = site.store.take();
        assert_eq!((counts.creates, counts.saves), (0, 0), "{counts:?}");
        assert_eq!(site.store.uncounted().load(&id).await.unwrap(), None);
        assert_eq!(client.get("/named").await.text, "");
    }
}

on_every_store!(
    a_login_and_a_logout_hold_with_a_store_that_touches,
    a_logout_meanwhile_holds_with_a_store_that_touches,
);

async fn a_login_and_a_logout_hold_with_a_store_that_touches<B: backends::Backend>(backend: B) {
    let store = RefreshStore::new(backend.touching());
    a_login_and_a_logout_work_inside_annotated_handlers(store).await;
}

async fn a_logout_meanwhile_holds_with_a_store_that_touches<B: backends::Backend>(backend: B) {
    let site = site(RefreshStore::new(backend.touching())).await;
    let client = site.server.client();
    client.get("/login/user").await;
    let id = client.session_id().unwrap();
    site.clock.advance(25.hours());
    let meanwhile = async {
        site.gate.arrived().await;
        client.get("/plain_logout").await;
        site.gate.open();
    };
    let (answer, ()) = tokio::join!(client.get("/slow"), meanwhile);
    assert_eq!((answer.status, answer.outcome()), (StatusCode::OK, "gone"));
    assert_eq!(backend.touching().load(&id).await.unwrap(), None);
}

async fn a_logout_while_a_slow_page_refreshes_stays_a_logout<S: SessionStore + Clone>(store: S) {
    let site = site(store).await;
    let client = site.server.client();
    client.get("/login/user").await;
    let id = client.session_id().unwrap();
    let _ = site.store.take();
    let meanwhile = async {
        site.gate.arrived().await;
        client.get("/plain_logout").await;
        site.gate.open();
    };
    let (answer, ()) = tokio::join!(client.get("/slow"), meanwhile);
    assert_eq!((answer.status, answer.outcome()), (StatusCode::OK, "gone"));
    assert_eq!(site.store.uncounted().load(&id).await.unwrap(), None);
    let counts = site.store.take();
    assert_eq!((counts.creates, counts.saves), (0, 0), "{counts:?}");
}
