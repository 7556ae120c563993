//! The application that most tests share: sessions, users who log in, a clock, and instruments.

use std::pin::pin;

use axum::{Extension, Router};
use session_refresh::RefreshLayer;
use tower_sessions::{
    Expiry, MemoryStore, SessionManagerLayer, SessionStore,
    session::{Id, Record},
};

use crate::{
    Answer, Client, CountingStore, Counts, CurrentUser, Gate, Lookups, Server, TestClock,
    login_routes,
};

/// A [`Site`] that is still being put together.
#[derive(Debug)]
#[must_use]
pub struct Setup<S = MemoryStore> {
    routes: Router,
    store: S,
    clock: TestClock,
    refresh: RefreshLayer,
    expiry: Option<Expiry>,
    always_save: bool,
}

impl Setup {
    /// `routes` beside [`login_routes`], sessions in memory, and [`CurrentUser`] as the user.
    pub fn new(routes: Router) -> Self {
        let clock = TestClock::default();
        let refresh = RefreshLayer::new()
            .user::<CurrentUser>()
            .clock(clock.as_fn());
        Self {
            routes,
            store: MemoryStore::default(),
            clock,
            refresh,
            expiry: None,
            always_save: false,
        }
    }
}

impl<S> Setup<S> {
    /// Sessions in another store.
    pub fn store<T>(self, store: T) -> Setup<T> {
        Setup {
            routes: self.routes,
            store,
            clock: self.clock,
            refresh: self.refresh,
            expiry: self.expiry,
            always_save: self.always_save,
        }
    }

    /// Changes the `RefreshLayer`.
    pub fn refresh(mut self, change: impl FnOnce(RefreshLayer) -> RefreshLayer) -> Self {
        self.refresh = change(self.refresh);
        self
    }

    /// A `RefreshLayer` that has the clock and says nothing else.
    pub fn without_user_source(mut self) -> Self {
        self.refresh = RefreshLayer::new().clock(self.clock.as_fn());
        self
    }

    /// How long sessions live; two weeks if unsaid.
    pub fn expiry(mut self, expiry: Expiry) -> Self {
        self.expiry = Some(expiry);
        self
    }

    /// Has tower-sessions save every session on every request.
    pub fn always_save(mut self) -> Self {
        self.always_save = true;
        self
    }
}

impl<S: SessionStore + Clone> Setup<S> {
    /// Serves it.
    pub async fn start(self) -> Site<S> {
        let store = CountingStore::new(self.store);
        let lookups = Lookups::default();
        let gate = Gate::default();
        let mut sessions = SessionManagerLayer::new(store.clone())
            .with_secure(false)
            .with_always_save(self.always_save);
        if let Some(expiry) = self.expiry {
            sessions = sessions.with_expiry(expiry);
        }
        let app = self
            .routes
            .merge(login_routes())
            .layer(self.refresh)
            .layer(Extension(lookups.clone()))
            .layer(Extension(gate.clone()))
            .layer(sessions);
        Site {
            server: Server::start(app).await,
            store,
            clock: self.clock,
            lookups,
            gate,
        }
    }
}

/// A served application and its instruments.
#[derive(Debug)]
pub struct Site<S = MemoryStore> {
    server: Server,
    store: CountingStore<S>,
    /// What a refresh goes by.
    pub clock: TestClock,
    /// How often the user was asked for.
    pub lookups: Lookups,
    gate: Gate,
}

impl<S: SessionStore + Clone> Site<S> {
    /// A visitor.
    #[must_use]
    pub fn visitor(&self) -> Client {
        self.server.client()
    }

    /// Somebody who has just logged in, in this role. Nothing was counted, and no refresh recorded.
    pub async fn login(&self, role: &str) -> Client {
        let client = self.visitor();
        client.post(&format!("/login/{role}")).await;
        let _ = self.counts();
        client
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
        self.store
            .uncounted()
            .load(&id)
            .await
            .expect("the store is up")
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
        let saved = self.store.uncounted().save(&record).await;
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
        self.once_started(client, path, async {
            meanwhile.await;
            self.gate.open();
        })
        .await
    }

    /// `GET path`, whose handler says at the [`Gate`] that it has started; then `meanwhile` happens.
    ///
    /// # Panics
    /// If the handler never comes to the gate.
    pub async fn once_started(
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
        tokio::join!(request, meanwhile).0
    }
}
