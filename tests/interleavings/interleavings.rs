//! Every order in which the tasks of a few requests can run, or as many as there is time for: whatever holds a lock, waits for
//! another task, or is dropped while it does.
//!
//! Shuttle runs the tasks, and decides at each step which one goes on. `SHUTTLE_ITERATIONS` says how many orders of each test
//! are tried; 1,000 if it does not. A failure prints the order, for `shuttle::replay`.

use std::{
    env,
    ops::RangeInclusive,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use async_trait::async_trait;
use axum::{BoxError, Extension, Router, body::Body, response::Response, routing::get};
use http::Request;
use session_refresh::{
    LifetimeLayer, Outcome, RefreshInfo, RefreshLayer, SessionLifetime, session_refresh,
    store::{Serialized, SessionId, Touch, Touched},
    testing::{AssertRefresh as _, TestClock},
};
use shuttle::{
    Config, Runner,
    scheduler::{PctScheduler, RandomScheduler},
};
use time::{Duration, OffsetDateTime};
use tokio::task::yield_now;
use tower::ServiceExt as _;
use tower_sessions::{
    Expiry, MemoryStore, Session, SessionManagerLayer, SessionStore,
    session::{Id, Record},
    session_store::Result,
};

/// Has other tasks run before and after whatever is asked of a store.
#[derive(Clone, Debug, Default)]
struct Slow(MemoryStore);

async fn slowly<F: Future>(work: F) -> F::Output {
    yield_now().await;
    let done = work.await;
    yield_now().await;
    done
}

#[async_trait]
impl SessionStore for Slow {
    async fn create(&self, record: &mut Record) -> Result<()> {
        slowly(self.0.create(record)).await
    }

    async fn save(&self, record: &Record) -> Result<()> {
        slowly(self.0.save(record)).await
    }

    async fn load(&self, id: &Id) -> Result<Option<Record>> {
        slowly(self.0.load(id)).await
    }

    async fn delete(&self, id: &Id) -> Result<()> {
        slowly(self.0.delete(id)).await
    }
}

/// Tries orders at random, and such in which few tasks are interrupted.
fn check(test: impl AsyncFn() + Clone + Send + Sync + 'static) {
    let iterations = env::var("SHUTTLE_ITERATIONS");
    let iterations = iterations.map_or(1000, |iterations| iterations.parse().expect("a number"));
    let run = move || {
        tokio::time::clear_triggers();
        shuttle::future::block_on(test());
    };
    let mut config = Config::new();
    config.stack_size = 1 << 20;
    Runner::new(RandomScheduler::new(iterations), config.clone()).run(run.clone());
    Runner::new(PctScheduler::new(3, iterations), config).run(run);
}

/// Waits for all.
async fn join<T: 'static>(tasks: impl IntoIterator<Item = tokio::task::JoinHandle<T>>) -> Vec<T> {
    let mut done = Vec::new();
    for task in tasks {
        done.push(task.await.expect("no task panics"));
    }
    done
}

fn hours(hours: i64) -> OffsetDateTime {
    OffsetDateTime::UNIX_EPOCH + Duration::days(40_000) + Duration::hours(hours)
}

async fn created(store: &impl SessionStore) -> Record {
    let mut record = Record {
        id: Id::default(),
        data: [].into(),
        expiry_date: hours(10),
    };
    store.create(&mut record).await.expect("memory is there");
    record
}

/// Two touches, two saves, and perhaps a delete: one touch is done, nothing is lost, nothing comes back.
#[test]
fn of_one_session_one_is_written_at_a_time() {
    for is_deleted in [false, true] {
        check(async move || {
            let store = Serialized::new(Slow::default());
            let record = created(&store).await;
            let touches = [20, 21].map(|expiry| {
                let (store, id) = (store.clone(), SessionId::from(record.id));
                tokio::spawn(async move {
                    store
                        .touch(id, hours(10)..=hours(10), hours(expiry))
                        .await
                        .expect("memory is there")
                })
            });
            // The last one of two saves of a whole record wins, as everywhere.
            let saves = ["a", "b"].map(|key| {
                let (store, mut record) = (store.clone(), record.clone());
                record.data.insert(key.into(), true.into());
                record.expiry_date = hours(30);
                tokio::spawn(async move { store.save(&record).await.expect("memory is there") })
            });
            if is_deleted {
                store.delete(&record.id).await.expect("memory is there");
            }
            let touches = join(touches).await;
            join(saves).await;
            let done = touches
                .iter()
                .filter(|touched| **touched == Touched::Done)
                .count();
            assert!(done <= 1, "{touches:?}");
            let found = store.load(&record.id).await.expect("memory is there");
            assert_eq!(found.is_none(), is_deleted);
            if let Some(found) = found {
                assert_eq!((found.data.len(), found.expiry_date), (1, hours(30)));
            }
        });
    }
}

/// Whoever asks may go away at any time: what he has begun goes on, and his turn ends.
#[test]
fn who_goes_away_keeps_nobody_from_writing() {
    check(async || {
        let store = Serialized::new(Slow::default());
        let record = created(&store).await;
        let tasks = [20, 21, 22].map(|expiry| {
            let (store, id) = (store.clone(), SessionId::from(record.id));
            tokio::spawn(async move {
                store
                    .touch(id, hours(10)..=hours(expiry), hours(expiry))
                    .await
                    .ok()
            })
        });
        tasks[0].abort();
        yield_now().await;
        tasks[1].abort();
        let [_, _, last] = tasks;
        let last = last
            .await
            .expect("no task panics")
            .expect("memory is there");
        let found = store.load(&record.id).await.expect("memory is there");
        assert_eq!(last, Touched::Done);
        assert_eq!(found.expect("nobody has deleted it").expiry_date, hours(22));
    });
}

/// A store whose touches wait until the test lets them end, and that counts them.
#[derive(Clone, Debug)]
struct Stalling {
    store: Serialized<MemoryStore>,
    touches: Arc<Touches>,
}

#[derive(Debug)]
struct Touches {
    may_end: tokio::sync::Semaphore,
    under_way: AtomicUsize,
    most: AtomicUsize,
    sessions: Mutex<Vec<SessionId>>,
}

#[async_trait]
impl SessionStore for Stalling {
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

impl Touch for Stalling {
    async fn touch(
        &self,
        id: SessionId,
        due: RangeInclusive<OffsetDateTime>,
        expiry: OffsetDateTime,
    ) -> std::result::Result<Touched, BoxError> {
        let Touches {
            may_end,
            under_way,
            most,
            sessions,
        } = &*self.touches;
        let now = under_way.fetch_add(1, Ordering::SeqCst) + 1;
        most.fetch_max(now, Ordering::SeqCst);
        {
            let mut sessions = sessions.lock().expect("nobody panics with it");
            assert!(
                !sessions.contains(&id),
                "a session is touched once at a time"
            );
            sessions.push(id);
        }
        let _ends = UnderWay(&self.touches, id);
        may_end
            .acquire()
            .await
            .expect("it is never closed")
            .forget();
        self.store.touch(id, due, expiry).await
    }
}

/// A touch that has not ended, and has not been dropped either: one that takes far too long is.
struct UnderWay<'a>(&'a Touches, SessionId);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        let Self(touches, id) = self;
        let sessions = touches.sessions.lock();
        sessions
            .expect("nobody panics with it")
            .retain(|other| other != id);
        touches.under_way.fetch_sub(1, Ordering::SeqCst);
    }
}

#[session_refresh(interval = "1h")]
async fn look(_: RefreshInfo) {}

#[session_refresh(interval = "1h")]
async fn add(session: Session, Extension(item): Extension<&'static str>) {
    session.insert(item, true).await.expect("memory is there");
}

async fn log_out(session: Session) {
    session.flush().await.expect("memory is there");
}

async fn log_in(session: Session) {
    session.insert("user", 7).await.expect("memory is there");
}

/// A socket's two halves: one writes, and one keeps the session alive.
async fn two_halves(session: Session, lifetime: SessionLifetime) {
    let touches = tokio::spawn(async move { lifetime.touch(Duration::HOUR).await });
    session.insert("half", true).await.expect("memory is there");
    session.save().await.expect("memory is there");
    let touched = touches.await.expect("no task panics");
    assert_ne!(touched.outcome, Outcome::Unavailable);
}

#[derive(Clone)]
struct App {
    router: Router,
    clock: TestClock,
}

impl App {
    fn new<S: SessionStore + Touch + Clone>(store: S) -> Self {
        let clock = TestClock::default();
        let sessions = LifetimeLayer::new(store, |store| {
            SessionManagerLayer::new(store).with_expiry(Expiry::OnInactivity(Duration::hours(10)))
        });
        let router = Router::new()
            .route("/look", get(look))
            .route("/add", get(add))
            .route("/log_out", get(log_out))
            .route("/log_in", get(log_in))
            .route("/two_halves", get(two_halves))
            .layer(sessions.with_clock(clock.as_fn()))
            .layer(RefreshLayer::new().info_in_response());
        Self { router, clock }
    }

    async fn get(&self, path: &str, cookie: &str, item: &'static str) -> Response {
        let request = Request::get(path).header("cookie", cookie).extension(item);
        let request = request.body(Body::empty()).expect("a request");
        self.router
            .clone()
            .oneshot(request)
            .await
            .expect("it answers")
    }

    fn spawn(
        &self,
        path: &'static str,
        cookie: &str,
        item: &'static str,
    ) -> tokio::task::JoinHandle<Response> {
        let (app, cookie) = (self.clone(), cookie.to_owned());
        tokio::spawn(async move { app.get(path, &cookie, item).await })
    }

    async fn cookie(&self) -> String {
        let answer = self.get("/log_in", "", "").await;
        let cookie = answer.headers()["set-cookie"].to_str().expect("ASCII");
        cookie.split(';').next().unwrap_or_default().to_owned()
    }
}

fn id(cookie: &str) -> Id {
    cookie.trim_start_matches("id=").parse().expect("an id")
}

/// Promises 1 and 4, in one process.
#[test]
fn of_racing_pages_one_refreshes_and_what_another_writes_stays() {
    check(async || {
        let memory = Slow::default();
        let app = App::new(Serialized::new(memory.clone()));
        let cookie = app.cookie().await;
        app.clock.advance(Duration::hours(2));
        let pages = [("/look", ""), ("/look", ""), ("/add", "book")];
        let answers = join(pages.map(|(path, item)| app.spawn(path, &cookie, item))).await;
        let outcomes: Vec<_> = answers
            .iter()
            .map(|answer| answer.refresh_info().map(|info| info.outcome))
            .collect();
        let refreshed = outcomes
            .iter()
            .filter(|outcome| **outcome == Some(Outcome::Refreshed));
        // The write may come before the last one asks.
        assert!(refreshed.count() <= 1, "{outcomes:?}");
        let record = memory
            .0
            .load(&id(&cookie))
            .await
            .expect("memory is there")
            .expect("nobody logged out");
        assert!(record.data.contains_key("book"), "{record:?}");
        assert!(record.expiry_date > app.clock.now() + Duration::hours(9));
    });
}

/// Promise 1.
#[test]
fn nobody_who_has_logged_out_comes_back() {
    check(async || {
        let memory = Slow::default();
        let app = App::new(Serialized::new(memory.clone()));
        let cookie = app.cookie().await;
        app.clock.advance(Duration::hours(2));
        let pages = [("/look", ""), ("/add", "book"), ("/log_out", "")];
        let pages = pages.map(|(path, item)| app.spawn(path, &cookie, item));
        // One more goes away before it is answered.
        let impatient = app.spawn("/look", &cookie, "");
        yield_now().await;
        impatient.abort();
        join(pages).await;
        assert_eq!(
            memory.0.load(&id(&cookie)).await.expect("memory is there"),
            None
        );
    });
}

/// The request's store, used by two tasks at once.
#[test]
fn two_halves_of_a_socket_get_along() {
    check(async || {
        let memory = Slow::default();
        let app = App::new(Serialized::new(memory.clone()));
        let cookie = app.cookie().await;
        app.clock.advance(Duration::hours(2));
        let answers = [
            app.spawn("/two_halves", &cookie, ""),
            app.spawn("/add", &cookie, "book"),
        ];
        join(answers).await;
        let record = memory
            .0
            .load(&id(&cookie))
            .await
            .expect("memory is there")
            .expect("nobody logged out");
        assert!(
            record.data.contains_key("half") || record.data.contains_key("book"),
            "{record:?}"
        );
        assert!(record.expiry_date > app.clock.now() + Duration::hours(9));
    });
}

/// An application whose store stalls.
fn stalling() -> (App, Arc<Touches>) {
    let touches = Arc::new(Touches {
        may_end: tokio::sync::Semaphore::new(0),
        under_way: AtomicUsize::default(),
        most: AtomicUsize::default(),
        sessions: Mutex::default(),
    });
    let store = Serialized::new(MemoryStore::default());
    let app = App::new(Stalling {
        store,
        touches: Arc::clone(&touches),
    });
    (app, touches)
}

/// A touch that nobody waits for any more comes late; then the session is as any other.
#[test]
fn a_session_whose_touch_came_late_is_touched_again() {
    check(async || {
        let (app, touches) = stalling();
        let cookie = app.cookie().await;
        app.clock.advance(Duration::hours(2));
        let page = app.spawn("/look", &cookie, "");
        while touches.under_way.load(Ordering::SeqCst) == 0 {
            yield_now().await;
        }
        tokio::time::trigger_timeouts(|_| true);
        let answer = page.await.expect("no task panics");
        answer.assert_outcome(Outcome::Unavailable);
        tokio::time::clear_triggers();
        touches.may_end.add_permits(100);
        // The touch has ended when another one begins.
        app.clock.advance(Duration::hours(2));
        for _ in 0..1000 {
            let answer = app.get("/look", &cookie, "").await;
            let outcome = answer.refresh_info().map(|info| info.outcome);
            if outcome == Some(Outcome::Refreshed) {
                return;
            }
            assert_eq!(outcome, Some(Outcome::Unavailable));
            yield_now().await;
        }
        panic!("it stays unavailable");
    });
}

/// Promise 7: six sessions are due, and the store stalls; who waits is told at some time, and then the store recovers.
#[test]
fn a_store_that_stalls_holds_four_touches_and_then_none() {
    check(async || {
        let (app, touches) = stalling();
        let mut cookies = Vec::new();
        for _ in 0..6 {
            cookies.push(app.cookie().await);
        }
        app.clock.advance(Duration::hours(2));
        // Two tabs of the first one.
        let pages = cookies
            .iter()
            .chain(&cookies[..1])
            .map(|cookie| app.spawn("/look", cookie, ""));
        let pages: Vec<_> = pages.collect();
        for _ in 0..10 {
            yield_now().await;
        }
        // The time is up for whoever waits, whenever that is.
        tokio::time::trigger_timeouts(|_| true);
        let answers = join(pages).await;
        for answer in &answers {
            answer.assert_outcome(Outcome::Unavailable);
        }
        tokio::time::clear_triggers();
        assert!(touches.most.load(Ordering::SeqCst) <= 4);
        touches.may_end.add_permits(100);
        while touches.under_way.load(Ordering::SeqCst) > 0 {
            yield_now().await;
        }
        assert_eq!(
            touches
                .sessions
                .lock()
                .expect("nobody panics with it")
                .len(),
            0
        );
    });
}
