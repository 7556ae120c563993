//! The application that the tests share: sessions, users who log in, a clock, and instruments.

use std::pin::pin;

use axum::{Extension, Router};
use session_refresh::{LifetimeLayer, RefreshLayer, store::Touch};
use time::Duration;
use tower_sessions::{
    Expiry, MemoryStore, SessionManagerLayer, SessionStore,
    session::{Id, Record},
};

use crate::{
    Answer, Client, CountingStore, Counts, CurrentUser, Gate, Lookups, Server, TestClock,
    login_routes,
};

/// Where sessions are kept, and the layer that owns them.
pub trait Sessions: Clone {
    /// The store, as it is given to the layer.
    type Store: SessionStore + Clone;

    /// Whether a refresh is a touch before the handler, or else a stamp after it.
    const TOUCH: bool;

    /// The store.
    fn store(&self) -> Self::Store;

    /// Puts the layer around routes.
    fn layer(&self, store: CountingStore<Self::Store>, routes: Router, options: &Options)
    -> Router;
}

/// What the session layers have in common.
#[derive(Clone, Debug)]
pub struct Options {
    /// The clock of a layer that has one.
    pub clock: TestClock,
    expiry: Option<Expiry>,
    always_save: bool,
    max_lifetime: Option<Duration>,
    idle: Option<Duration>,
    cookie_age: Option<Duration>,
}

impl Options {
    /// tower-sessions' layer around a store.
    pub fn sessions<S: SessionStore>(&self, store: S) -> SessionManagerLayer<S> {
        let sessions = SessionManagerLayer::new(store)
            .with_secure(false)
            .with_always_save(self.always_save);
        match self.expiry {
            Some(expiry) => sessions.with_expiry(expiry),
            None => sessions,
        }
    }
}

/// tower-sessions' layer alone.
#[derive(Clone, Debug, Default)]
pub struct Plain<S>(pub S);

impl<S: SessionStore + Clone> Sessions for Plain<S> {
    type Store = S;
    const TOUCH: bool = false;

    fn store(&self) -> S {
        self.0.clone()
    }

    fn layer(&self, store: CountingStore<S>, routes: Router, options: &Options) -> Router {
        routes.layer(options.sessions(store))
    }
}

/// A `LifetimeLayer`.
#[derive(Clone, Debug, Default)]
pub struct Owned<S>(pub S);

impl<S: SessionStore + Touch + Clone> Sessions for Owned<S> {
    type Store = S;
    const TOUCH: bool = true;

    fn store(&self) -> S {
        self.0.clone()
    }

    fn layer(&self, store: CountingStore<S>, routes: Router, options: &Options) -> Router {
        let Options {
            max_lifetime,
            idle,
            cookie_age,
            ..
        } = *options;
        let (clock, options) = (options.clock.as_fn(), options.clone());
        let mut sessions =
            LifetimeLayer::new(store, move |store| options.sessions(store)).with_clock(clock);
        if let Some(max_lifetime) = max_lifetime {
            sessions = sessions.with_max_lifetime(max_lifetime);
        }
        if let Some(idle) = idle {
            sessions = sessions.with_idle(idle);
        }
        if let Some(cookie_age) = cookie_age {
            sessions = sessions.with_cookie_age(cookie_age);
        }
        routes.layer(sessions)
    }
}

/// A [`Site`] that is still being put together.
#[derive(Debug)]
#[must_use]
pub struct Setup<K = Plain<MemoryStore>> {
    routes: Router,
    sessions: K,
    options: Options,
    refresh: RefreshLayer,
}

impl Setup {
    /// `routes` beside [`login_routes`], sessions in memory under tower-sessions' layer, and [`CurrentUser`] as the user.
    pub fn new(routes: Router) -> Self {
        let clock = TestClock::default();
        Self {
            routes,
            sessions: Plain::default(),
            refresh: RefreshLayer::new()
                .user::<CurrentUser>()
                .clock(clock.as_fn()),
            options: Options {
                clock,
                expiry: None,
                always_save: false,
                max_lifetime: None,
                idle: None,
                cookie_age: None,
            },
        }
    }
}

impl<K> Setup<K> {
    /// Sessions in another store, under another layer.
    pub fn on<T: Sessions>(self, sessions: T) -> Setup<T> {
        Setup {
            routes: self.routes,
            sessions,
            options: self.options,
            refresh: self.refresh,
        }
    }

    /// Sessions in a store under tower-sessions' layer alone.
    pub fn store<S: SessionStore + Clone>(self, store: S) -> Setup<Plain<S>> {
        self.on(Plain(store))
    }

    /// Changes the `RefreshLayer`.
    pub fn refresh(mut self, change: impl FnOnce(RefreshLayer) -> RefreshLayer) -> Self {
        self.refresh = change(self.refresh);
        self
    }

    /// A `RefreshLayer` that has the clock and sets nothing else.
    pub fn without_user_source(mut self) -> Self {
        self.refresh = RefreshLayer::new().clock(self.options.clock.as_fn());
        self
    }

    /// How long sessions live; two weeks if nothing is said.
    pub fn expiry(mut self, expiry: Expiry) -> Self {
        self.options.expiry = Some(expiry);
        self
    }

    /// An absolute limit, under a `LifetimeLayer`.
    pub fn max_lifetime(mut self, max_lifetime: Duration) -> Self {
        self.options.max_lifetime = Some(max_lifetime);
        self
    }

    /// The server's own idle time, under a `LifetimeLayer`.
    pub fn idle(mut self, idle: Duration) -> Self {
        self.options.idle = Some(idle);
        self
    }

    /// The cookie's own age, under a `LifetimeLayer`.
    pub fn cookie_age(mut self, cookie_age: Duration) -> Self {
        self.options.cookie_age = Some(cookie_age);
        self
    }

    /// Another site's clock: the same application after a restart, or beside it.
    pub fn clock(mut self, clock: &TestClock) -> Self {
        self.refresh = self.refresh.clock(clock.as_fn());
        self.options.clock = clock.clone();
        self
    }

    /// Has tower-sessions save every session on every request.
    pub fn always_save(mut self) -> Self {
        self.options.always_save = true;
        self
    }
}

impl<K: Sessions> Setup<K> {
    /// Serves it.
    pub async fn start(self) -> Site<K> {
        let store = CountingStore::new(self.sessions.store());
        let lookups = Lookups::default();
        let gate = Gate::default();
        let routes = self
            .routes
            .merge(login_routes())
            .layer(self.refresh)
            .layer(Extension(lookups.clone()))
            .layer(Extension(gate.clone()));
        let app = (self.sessions).layer(store.clone(), routes, &self.options);
        Site {
            server: Server::start(app).await,
            store,
            clock: self.options.clock,
            lookups,
            gate,
        }
    }
}

/// A served application and its instruments.
#[derive(Debug)]
pub struct Site<K: Sessions = Plain<MemoryStore>> {
    server: Server,
    store: CountingStore<K::Store>,
    /// What a refresh goes by.
    pub clock: TestClock,
    /// How often the user was asked for.
    pub lookups: Lookups,
    /// Where slow handlers wait.
    pub gate: Gate,
}

impl<K: Sessions> Site<K> {
    /// A visitor.
    #[must_use]
    pub fn visitor(&self) -> Client {
        self.server.client()
    }

    /// The same browser at this site, its cookies from wherever it was.
    #[must_use]
    pub fn welcome(&self, client: &Client) -> Client {
        self.server.welcome(client)
    }

    /// Somebody who has just logged in, in this role. Nothing was counted, and no refresh recorded.
    pub async fn login(&self, role: &str) -> Client {
        let client = self.visitor();
        client.post(&format!("/login/{role}")).await;
        let _ = self.counts();
        client
    }

    /// Somebody who logged in a day ago, as a user: a refresh by the default interval is due.
    pub async fn due(&self) -> Client {
        let client = self.login("user").await;
        self.clock.advance(Duration::DAY);
        client
    }

    /// The store, and nothing that is asked of it counts.
    #[must_use]
    pub fn store(&self) -> &K::Store {
        self.store.uncounted()
    }

    /// How long the client's session lives by the test's clock.
    ///
    /// # Panics
    /// If there is none.
    pub async fn left(&self, client: &Client) -> Duration {
        self.session(client).await.expiry_date - self.clock.now()
    }

    /// What was asked of the store since the last time.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.store.take()
    }

    /// What the store keeps under `id`.
    ///
    /// # Panics
    /// If the store fails.
    pub async fn record(&self, id: Id) -> Option<Record> {
        self.store().load(&id).await.expect("the store is up")
    }

    /// What the store keeps of the client's session.
    ///
    /// # Panics
    /// If there is none.
    pub async fn session(&self, client: &Client) -> Record {
        let id = client.session_id().expect("the client has a session");
        self.record(id).await.expect("the session is live")
    }

    /// A value of the client's session.
    ///
    /// # Panics
    /// If there is no session.
    pub async fn value(&self, client: &Client, key: &str) -> Option<serde_json::Value> {
        self.session(client).await.data.remove(key)
    }

    /// Changes the client's session behind the application's back.
    ///
    /// # Panics
    /// If there is none, or the store fails.
    pub async fn edit(&self, client: &Client, change: impl FnOnce(&mut Record)) {
        let mut record = self.session(client).await;
        change(&mut record);
        let saved = self.store().save(&record).await;
        saved.expect("the store is up");
    }

    /// `GET path`, whose handler passes the [`Gate`] when `meanwhile` has happened.
    ///
    /// # Panics
    /// If the handler never comes to the gate.
    pub async fn during(
        &self,
        client: &Client,
        path: &str,
        meanwhile: impl Future<Output = ()>,
    ) -> Answer {
        let mut request = pin!(client.get(path));
        tokio::select! {
            answer = &mut request => panic!("answered before its handler arrived: {answer:?}"),
            () = self.gate.arrived() => {}
        }
        let meanwhile = async {
            meanwhile.await;
            self.gate.open();
        };
        tokio::join!(request, meanwhile).0
    }
}
