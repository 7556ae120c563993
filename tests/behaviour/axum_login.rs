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
    LifetimeLayer, RefreshInfo, RefreshLayer, SessionUser, session_refresh, store::Touch,
};
use session_refresh_tests::{CountingStore, Gate, Options, Owned, Plain, Sessions, Setup, Site};
use time::ext::NumericalDuration as _;
use tower_sessions::SessionStore;

/// Everybody is a user, under the name of a role.
#[derive(Clone, Debug, Default)]
pub(crate) struct Backend {
    lookups: Arc<AtomicUsize>,
}

#[derive(Clone, Debug)]
pub(crate) struct User {
    pub(crate) role: String,
}

pub(crate) type AuthSession = axum_login::AuthSession<Backend>;

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

/// Sessions, and inside of them axum-login.
#[derive(Clone)]
pub(crate) struct WithLogin<K> {
    pub(crate) sessions: K,
    pub(crate) backend: Backend,
}

impl<S: SessionStore + Clone> Sessions for WithLogin<Plain<S>> {
    type Store = S;
    const TOUCH: bool = false;

    fn store(&self) -> S {
        self.sessions.store()
    }

    fn layer(&self, store: CountingStore<S>, routes: Router, options: &Options) -> Router {
        let sessions = options.sessions(store);
        routes.layer(AuthManagerLayerBuilder::new(self.backend.clone(), sessions).build())
    }
}

impl<S: SessionStore + Touch + Clone> Sessions for WithLogin<Owned<S>> {
    type Store = S;
    const TOUCH: bool = true;

    fn store(&self) -> S {
        self.sessions.store()
    }

    fn layer(&self, store: CountingStore<S>, routes: Router, options: &Options) -> Router {
        let (clock, options) = (options.clock.as_fn(), options.clone());
        let backend = self.backend.clone();
        let sessions = LifetimeLayer::new(store, move |store| {
            AuthManagerLayerBuilder::new(backend.clone(), options.sessions(store)).build()
        });
        routes.layer(sessions.with_clock(clock))
    }
}

async fn site<K>(sessions: K) -> (Site<WithLogin<K>>, Backend)
where
    K: Sessions,
    WithLogin<K>: Sessions,
{
    let backend = Backend::default();
    let routes = Router::new()
        .route("/layer", get(from_layer))
        .route("/named", get(named))
        .route("/login/{role}", get(login))
        .route("/logout", get(logout))
        .route("/plain_logout", get(plain_logout))
        .route("/slow", get(slow));
    let sessions = WithLogin {
        sessions,
        backend: backend.clone(),
    };
    let setup = Setup::new(routes).refresh(RefreshLayer::user::<AuthSession>);
    (setup.on(sessions).start().await, backend)
}

on_either_layer![
    an_auth_session_says_who_the_user_is,
    a_refresh_shares_the_load_and_the_look_up_that_axum_login_makes_anyway,
    a_login_and_a_logout_work_inside_annotated_handlers,
    a_logout_while_a_slow_page_runs_stays_a_logout,
];

async fn an_auth_session_says_who_the_user_is<K>(sessions: K)
where
    K: Sessions,
    WithLogin<K>: Sessions,
{
    let (site, _) = site(sessions).await;
    for path in ["/layer", "/named"] {
        assert_eq!(site.visitor().get(path).await.outcome(), "no_session");
        for (role, outcome) in [
            ("user", "refreshed"),
            ("staff", "staff"),
            ("superuser", "superuser"),
        ] {
            let client = site.visitor();
            client.get(&format!("/login/{role}")).await;
            site.clock.advance(1.hours());
            let answer = client.get(path).await;
            assert_eq!((answer.status, answer.outcome()), (StatusCode::OK, outcome));
        }
    }
}

async fn a_refresh_shares_the_load_and_the_look_up_that_axum_login_makes_anyway<K>(sessions: K)
where
    K: Sessions,
    WithLogin<K>: Sessions,
{
    let (site, backend) = site(sessions).await;
    let client = site.visitor();
    client.get("/login/user").await;
    for path in ["/layer", "/named"] {
        site.clock.advance(1.hours());
        for outcome in ["refreshed", "not_due"] {
            let _ = site.counts();
            let lookups = backend.lookups.load(Ordering::SeqCst);
            assert_eq!(client.get(path).await.outcome(), outcome);
            let counts = site.counts();
            assert!(counts.loads <= if K::TOUCH { 1 } else { 2 }, "{counts:?}");
            assert_eq!(counts.writes(), usize::from(outcome == "refreshed"));
            assert_eq!(backend.lookups.load(Ordering::SeqCst), lookups + 1);
        }
    }
}

async fn a_login_and_a_logout_work_inside_annotated_handlers<K>(sessions: K)
where
    K: Sessions,
    WithLogin<K>: Sessions,
{
    let (site, _) = site(sessions).await;
    let client = site.visitor();
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
        let _ = site.counts();
        let answer = client.get("/logout").await;
        // A touch has come before the logout, and a stamp would come after it.
        let outcome = if K::TOUCH { "refreshed" } else { "gone" };
        assert_eq!((answer.status, answer.outcome()), (StatusCode::OK, outcome));
        assert!(answer.removes_cookie(), "{answer:?}");
        let counts = site.counts();
        assert_eq!((counts.creates, counts.saves), (0, 0), "{counts:?}");
        assert_eq!(site.record(id).await, None);
        assert_eq!(client.get("/named").await.text, "");
    }
}

async fn a_logout_while_a_slow_page_runs_stays_a_logout<K>(sessions: K)
where
    K: Sessions,
    WithLogin<K>: Sessions,
{
    let (site, _) = site(sessions).await;
    let client = site.visitor();
    client.get("/login/user").await;
    let id = client.session_id().unwrap();
    site.clock.advance(1.hours());
    let _ = site.counts();
    let answer = site
        .during(&client, "/slow", async {
            client.get("/plain_logout").await;
        })
        .await;
    assert_eq!(answer.status, StatusCode::OK);
    // tower-sessions' layer alone removes the cookie of a session that is gone.
    assert_eq!(answer.set_cookie().is_empty(), K::TOUCH);
    assert_eq!(site.record(id).await, None);
    let counts = site.counts();
    assert_eq!((counts.creates, counts.saves), (0, 0), "{counts:?}");
}
