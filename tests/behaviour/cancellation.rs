//! A request whose future is dropped at any point: the next request mends what is left half done.

use std::{
    ops::RangeInclusive,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use async_trait::async_trait;
use axum::{
    BoxError, Extension, Router,
    body::Body,
    response::Response,
    routing::{get, post},
};
use http::{Request, StatusCode};
use session_refresh::{
    LifetimeLayer, RefreshLayer, session_refresh,
    store::{Serialized, SessionId, Touch, Touched},
    testing::AssertRefresh as _,
};
use session_refresh_tests::{TestClock, login_routes};
use time::{Duration, OffsetDateTime};
use tower::ServiceExt as _;
use tower_sessions::{
    Expiry, MemoryStore, Session, SessionManagerLayer, SessionStore,
    session::{Id, Record},
    session_store::Result,
};

/// Lets a request be dropped before and after each thing that it asks of the store.
#[derive(Clone, Debug)]
struct Pausing {
    store: Serialized<MemoryStore>,
}

/// The store of one request: its session holds it, and so one more clone of the `Arc`.
#[derive(Clone, Debug)]
struct Held<S> {
    store: S,
    #[allow(dead_code)]
    held: Arc<()>,
}

#[async_trait]
impl<S: SessionStore> SessionStore for Held<S> {
    async fn create(&self, record: &mut Record) -> Result<()> {
        self.store.create(record).await
    }

    async fn save(&self, record: &Record) -> Result<()> {
        self.store.save(record).await
    }

    async fn load(&self, id: &Id) -> Result<Option<Record>> {
        self.store.load(id).await
    }

    async fn delete(&self, id: &Id) -> Result<()> {
        self.store.delete(id).await
    }
}

async fn paused<F: Future>(work: F) -> F::Output {
    tokio::task::yield_now().await;
    let done = work.await;
    tokio::task::yield_now().await;
    done
}

#[async_trait]
impl SessionStore for Pausing {
    async fn create(&self, record: &mut Record) -> Result<()> {
        paused(self.store.create(record)).await
    }

    async fn save(&self, record: &Record) -> Result<()> {
        paused(self.store.save(record)).await
    }

    async fn load(&self, id: &Id) -> Result<Option<Record>> {
        paused(self.store.load(id)).await
    }

    async fn delete(&self, id: &Id) -> Result<()> {
        paused(self.store.delete(id)).await
    }
}

impl Touch for Pausing {
    async fn touch(
        &self,
        id: SessionId,
        due: RangeInclusive<OffsetDateTime>,
        expiry: OffsetDateTime,
    ) -> std::result::Result<Touched, BoxError> {
        paused(self.store.touch(id, due, expiry)).await
    }
}

#[session_refresh]
async fn reads(session: Session) -> String {
    tokio::task::yield_now().await;
    session.get("role").await.unwrap().unwrap_or_default()
}

#[session_refresh]
async fn changes(session: Session, Extension(item): Extension<&'static str>) -> &'static str {
    tokio::task::yield_now().await;
    session.insert("cart", item).await.unwrap();
    "user"
}

/// Asks for a save, and does not wait for the store's answer.
async fn gives_up(session: Session) {
    session.insert("role", "user").await.unwrap();
    let mut save = pin!(session.save());
    let mut context = Context::from_waker(Waker::noop());
    assert!(save.as_mut().poll(&mut context).is_pending());
}

struct App {
    router: Router,
    clock: TestClock,
    held: Arc<()>,
}

fn app() -> App {
    let (clock, held) = (TestClock::default(), Arc::new(()));
    let store = Pausing {
        store: Serialized::new(MemoryStore::default()),
    };
    let of_requests = Arc::clone(&held);
    let sessions = LifetimeLayer::new(store, move |store| {
        let held = Arc::clone(&of_requests);
        let sessions = SessionManagerLayer::new(Held { store, held });
        sessions.with_expiry(Expiry::OnInactivity(Duration::days(14)))
    });
    let router = Router::new()
        .route("/reads", get(reads))
        .route("/changes", get(changes))
        .route("/gives_up", post(gives_up))
        .layer(Extension("a book"))
        .merge(login_routes())
        .layer(sessions.with_clock(clock.as_fn()))
        .layer(RefreshLayer::new().info_in_response());
    App {
        router,
        clock,
        held,
    }
}

impl App {
    fn request(
        &self,
        method: &str,
        path: &str,
        cookie: &str,
    ) -> impl Future<Output = Response> + use<> {
        let request = Request::builder().method(method).uri(path);
        let request = request.header("cookie", cookie).body(Body::empty());
        let answer = self.router.clone().oneshot(request.unwrap());
        async { answer.await.unwrap() }
    }

    /// A cookie of somebody whose session is due.
    async fn due(&self) -> String {
        let answer = self.request("POST", "/login/user", "").await;
        self.clock.advance(Duration::DAY);
        cookie(&answer).expect("a login sends a cookie")
    }
}

fn cookie(answer: &Response) -> Option<String> {
    let cookie = answer.headers().get("set-cookie")?.to_str().ok()?;
    cookie.split(';').next().map(str::to_owned)
}

/// Polls a request so often, and drops it. `None` if it had not answered by then.
async fn polled(request: impl Future<Output = Response>, polls: usize) -> Option<Response> {
    let mut request = pin!(request);
    for _ in 0..polls {
        let mut context = Context::from_waker(Waker::noop());
        if let Poll::Ready(answer) = request.as_mut().poll(&mut context) {
            return Some(answer);
        }
        // What it has asked for goes on in tasks of its own.
        for _ in 0..4 {
            tokio::task::yield_now().await;
        }
    }
    None
}

#[tokio::test]
async fn a_save_that_its_handler_gives_up_on_loses_no_data() {
    let app = app();
    let answer = app.request("POST", "/gives_up", "").await;
    let session = cookie(&answer).expect("the layer saves the session");
    let read = app.request("GET", "/reads", &session).await;
    let body = axum::body::to_bytes(read.into_body(), 100).await.unwrap();
    assert_eq!(body, "user");
}

#[tokio::test]
async fn a_request_that_is_dropped_anywhere_leaves_a_session_that_the_next_one_mends() {
    for path in ["/reads", "/changes"] {
        let app = app();
        let at_rest = Arc::strong_count(&app.held);
        let mut answered = false;
        for polls in 0.. {
            let due = app.due().await;
            let answer = polled(app.request("GET", path, &due), polls).await;
            answered = answer.is_some();
            drop(answer);
            assert_eq!(
                Arc::strong_count(&app.held),
                at_rest,
                "nothing that the request held is left: {path} {polls}"
            );

            // The session is there, and in time its cookie follows.
            let next = app.request("GET", "/reads", &due).await;
            assert_eq!(next.status(), StatusCode::OK, "{path} {polls}");
            let is_refreshed = next.refresh_info().unwrap().refreshed;
            assert_eq!(cookie(&next).is_some(), is_refreshed, "{path} {polls}");
            app.clock.advance(Duration::DAY);
            let later = app.request("GET", "/reads", &due).await;
            later.assert_refreshed();
            assert_eq!(cookie(&later).as_ref(), Some(&due), "{path} {polls}");
            let body = axum::body::to_bytes(later.into_body(), 100).await.unwrap();
            assert_eq!(body, "user", "{path} {polls}");
            if answered {
                assert!(polls > 5, "the store has paused");
                break;
            }
        }
        assert!(answered);
    }
}
