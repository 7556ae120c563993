//! What keeps a session alive, and what a page does to a cookie that it does not use.

use std::{
    pin::pin,
    task::{Context, Waker},
};

use axum::{
    Extension, Json, Router,
    extract::Request,
    middleware::{Next, from_fn},
    response::{AppendHeaders, IntoResponse, Response},
    routing::{get, post},
};
use http::{HeaderName, StatusCode, header::SET_COOKIE, request::Parts};
use serde_json::json;
use session_refresh::{LifetimeLayer, Policy, RefreshInfo, RefreshLayer, session_refresh};
use session_refresh_tests::{
    CurrentUser, Gate, Owned, Server, Sessions, Setup, Site, TestClock,
    backends::{Backend as _, Memory},
    login_routes,
};
use time::{Duration, ext::NumericalDuration as _};
use tower_sessions::{Expiry, MemoryStore, Session, SessionManagerLayer, SessionStore as _};

use crate::{about, only_loads};

on_touching_stores![
    a_slow_upload_does_not_outlive_its_session,
    an_answer_changes_nothing_about_a_refresh,
    a_page_that_uses_no_session_leaves_every_cookie_alone,
    a_page_under_way_while_its_user_logs_in_anew_leaves_the_new_cookie_alone,
    a_page_under_way_while_its_session_gets_a_new_id_leaves_the_new_cookie_alone,
    a_change_that_is_none_touches_once_and_keeps_the_handlers_caching,
    a_change_while_the_session_ends_brings_nothing_back,
    a_session_cleared_and_filled_again_is_a_live_session,
    what_others_see_of_a_refresh_is_true_when_they_read_it,
    a_cross_site_request_can_be_made_none,
];

async fn role(session: Session) -> String {
    session.get("role").await.unwrap().unwrap_or_default()
}

async fn add(session: Session) {
    session.insert("cart", ["a book"]).await.unwrap();
}

/// A1: the session has 0.8 s left, and the upload takes 1.2 s.
async fn a_slow_upload_does_not_outlive_its_session<K: Sessions>(sessions: K) {
    #[session_refresh(interval = "500ms")]
    async fn upload(Extension(gate): Extension<Gate>) {
        gate.pass().await;
    }
    let group = Router::new()
        .route(
            "/group",
            post(async |Extension(gate): Extension<Gate>| gate.pass().await),
        )
        .layer(RefreshLayer::new().policy(Policy::every(500.milliseconds())));
    let routes = Router::new()
        .route("/attribute", post(upload))
        .route("/role", get(role))
        .merge(group);
    let site = Setup::new(routes)
        .expiry(Expiry::OnInactivity(2.seconds()))
        .on(sessions)
        .start()
        .await;
    for path in ["/attribute", "/group"] {
        let client = site.login("user").await;
        site.clock.advance(1_200.milliseconds());
        let upload = tokio::spawn({
            let client = client.clone();
            async move { client.post(path).await }
        });
        site.gate.arrived().await;
        // A group waits a moment for somebody further in who decides.
        let refreshed = async {
            while site.counts().touches == 0 {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        };
        let in_time = std::time::Duration::from_secs(20);
        let refreshed = tokio::time::timeout(in_time, refreshed).await;
        assert!(
            refreshed.is_ok(),
            "{path} is refreshed while its handler runs"
        );
        site.clock.advance(1_200.milliseconds());
        site.gate.open();
        let answer = upload.await.unwrap();
        assert_eq!(
            (answer.status, answer.outcome()),
            (StatusCode::OK, "refreshed"),
            "{path}"
        );
        assert_eq!(client.get("/role").await.text, "user", "{path}");
    }
}

async fn an_answer_changes_nothing_about_a_refresh<K: Sessions>(sessions: K) {
    #[session_refresh]
    async fn missing() -> StatusCode {
        StatusCode::NOT_FOUND
    }
    #[session_refresh]
    async fn broken() -> StatusCode {
        StatusCode::BAD_GATEWAY
    }
    #[session_refresh]
    async fn rejected(Json(_): Json<u8>) {}
    #[session_refresh]
    async fn rejected_later(_: RefreshInfo, Json(_): Json<u8>) {}

    let group = Router::new()
        .route("/group/missing", get(async || StatusCode::NOT_FOUND))
        .route("/group/broken", get(async || StatusCode::BAD_GATEWAY))
        .route("/group/rejected", get(async |Json(_): Json<u8>| ()))
        .layer(RefreshLayer::new().policy(Policy::new()));
    let routes = Router::new()
        .route("/missing", get(missing))
        .route("/broken", get(broken))
        .route("/rejected", get(rejected))
        .route("/rejected_later", get(rejected_later))
        .merge(group);
    let site = Setup::new(routes).on(sessions).start().await;
    for (path, status, has_cookie) in [
        ("/missing", 404, true),
        ("/rejected", 415, true),
        // tower-sessions sends no cookie with a server error.
        ("/broken", 502, false),
        ("/group/missing", 404, true),
        ("/group/rejected", 415, true),
        ("/group/broken", 502, false),
    ] {
        let client = site.due().await;
        let answer = client.get(path).await;
        assert_eq!(answer.status.as_u16(), status, "{path}");
        assert_eq!(answer.outcome(), "refreshed", "{path}");
        assert_eq!(!answer.set_cookie().is_empty(), has_cookie, "{path}");
        assert!(about(site.left(&client).await, 14.days()), "{path}");
    }
    // The outcome is told where the attribute sees the answer.
    let client = site.due().await;
    let answer = client.get("/rejected_later").await;
    assert!(!answer.set_cookie().is_empty());
    assert!(about(site.left(&client).await, 14.days()));
}

#[session_refresh]
async fn page() {}

#[session_refresh]
async fn slow(Extension(gate): Extension<Gate>) {
    gate.pass().await;
}

/// What a handler sends for itself.
const FORGETS: [(HeaderName, &str); 2] = [(SET_COOKIE, "id=; Max-Age=0"), (SET_COOKIE, "seen=1")];

/// What axum-login's login does to a session that is there already.
async fn rotate(session: Session) {
    session.cycle_id().await.unwrap();
}

async fn pages<K: Sessions>(sessions: K) -> Site<K> {
    let group = Router::new()
        .route("/group", get(async || ()))
        .route("/group/annotated", get(page))
        .layer(RefreshLayer::new().policy(Policy::new()));
    let routes = Router::new()
        .route("/", get(page))
        .route("/unannotated", get(async || ()))
        .route("/forgets", get(async || AppendHeaders(FORGETS)))
        .route("/slow", get(slow))
        .route("/role", get(role))
        .route("/rotate", post(rotate))
        .merge(group);
    Setup::new(routes).on(sessions).start().await
}

/// A4, A5: one that has expired, was logged out or rotated, was never issued, or is another application's.
async fn a_page_that_uses_no_session_leaves_every_cookie_alone<K: Sessions>(sessions: K) {
    let site = pages(sessions).await;
    let expired = site.login("user").await.session_id().unwrap();
    site.clock.advance(15.days());
    let client = site.login("user").await;
    let rotated = client.session_id().unwrap();
    client.post("/rotate").await;
    let client = site.login("user").await;
    let logged_out = client.session_id().unwrap();
    client.post("/logout").await;
    for id in [
        &expired.to_string(),
        &rotated.to_string(),
        &logged_out.to_string(),
        "AAAAAAAAAAAAAAAAAAAAAA",
        "s%3Aanother-applications.signed",
    ] {
        let cookie = format!("id={id}");
        for path in ["/", "/group", "/group/annotated", "/unannotated"] {
            let _ = site.counts();
            let answer = site.visitor().get_with(path, "cookie", &cookie).await;
            assert_eq!(answer.status, StatusCode::OK);
            assert_eq!(answer.set_cookie(), "", "{path} {cookie}");
            let counts = site.counts();
            assert_eq!(counts, only_loads(counts.loads));
            assert!(counts.loads <= 1, "{counts:?}");
        }
        let answer = site.visitor().get_with("/forgets", "cookie", &cookie).await;
        let sent: Vec<_> = answer.headers.get_all(SET_COOKIE).iter().collect();
        assert_eq!(sent, FORGETS.map(|(_, value)| value), "{cookie}");
    }
}

/// A4, where the page is due and was there first.
async fn a_page_under_way_while_its_user_logs_in_anew_leaves_the_new_cookie_alone<K: Sessions>(
    sessions: K,
) {
    let site = pages(sessions).await;
    let client = site.due().await;
    let answer = site
        .during(&client, "/slow", async {
            client.post("/logout").await;
            client.post("/login/staff").await;
        })
        .await;
    assert_eq!((answer.outcome(), answer.set_cookie()), ("refreshed", ""));
    assert_eq!(client.get("/role").await.text, "staff");
}

async fn a_page_under_way_while_its_session_gets_a_new_id_leaves_the_new_cookie_alone<
    K: Sessions,
>(
    sessions: K,
) {
    let site = pages(sessions).await;
    let client = site.due().await;
    let answer = site
        .during(&client, "/slow", async {
            client.post("/rotate").await;
        })
        .await;
    assert_eq!(answer.set_cookie(), "");
    assert_eq!(client.get("/role").await.text, "user");
}

/// A9: `remove` marks the session as modified, whether there was something or not.
async fn a_change_that_is_none_touches_once_and_keeps_the_handlers_caching<K: Sessions>(
    sessions: K,
) {
    async fn flash(session: Session) -> Option<String> {
        session.remove("flash").await.unwrap()
    }
    #[session_refresh]
    async fn public(session: Session) -> impl IntoResponse {
        flash(session).await;
        [("cache-control", "public, max-age=600")]
    }
    #[session_refresh]
    async fn silent(session: Session) {
        flash(session).await;
    }
    let routes = Router::new()
        .route("/public", get(public))
        .route("/silent", get(silent));
    let site = Setup::new(routes).on(sessions).start().await;
    for (path, cache_control) in [("/public", "public, max-age=600"), ("/silent", "private")] {
        let client = site.due().await;
        let answer = client.get(path).await;
        assert_eq!(answer.outcome(), "refreshed", "{path}");
        // As without the attribute: the handler has modified the session.
        assert!(!answer.set_cookie().is_empty(), "{path}");
        assert_eq!(answer.header("cache-control"), cache_control);
        let counts = site.counts();
        assert_eq!((counts.touches, counts.saves), (1, 0), "{path} {counts:?}");
    }
}

/// A10.
async fn a_change_while_the_session_ends_brings_nothing_back<K: Sessions>(sessions: K) {
    #[session_refresh]
    async fn slow_change(
        session: Session,
        Extension(gate): Extension<Gate>,
        refresh: RefreshInfo,
    ) -> String {
        session.insert("cart", ["a book"]).await.unwrap();
        gate.pass().await;
        refresh.outcome.to_string()
    }
    let routes = Router::new().route("/", get(slow_change));
    let site = Setup::new(routes).on(sessions).start().await;
    let client = site.due().await;
    let id = client.session_id().unwrap();
    let answer = site
        .during(&client, "/", async {
            client.post("/logout").await;
        })
        .await;
    assert_eq!(
        (answer.status, answer.text.as_str(), answer.outcome()),
        (StatusCode::OK, "refreshed", "refreshed")
    );
    assert_eq!(site.record(id).await, None);
}

/// A11.
async fn a_session_cleared_and_filled_again_is_a_live_session<K: Sessions>(sessions: K) {
    #[session_refresh]
    async fn anew(session: Session) {
        session.clear().await;
        session.insert("role", "staff").await.unwrap();
    }
    let routes = Router::new()
        .route("/", get(anew))
        .route("/role", get(role));
    let site = Setup::new(routes).on(sessions).start().await;
    let client = site.due().await;
    assert_eq!(client.get("/").await.outcome(), "refreshed");
    assert_eq!(client.get("/role").await.text, "staff");
    let data = site.session(&client).await.data;
    assert_eq!(data, [("role".to_owned(), json!("staff"))].into());
    assert!(about(site.left(&client).await, 14.days()));
}

/// The handler reads a fact: the store says the same while it reads.
async fn what_others_see_of_a_refresh_is_true_when_they_read_it<K: Sessions>(sessions: K) {
    #[session_refresh]
    async fn slow_told(refresh: RefreshInfo, Extension(gate): Extension<Gate>) -> String {
        gate.pass().await;
        refresh.expires_at.unwrap().to_string()
    }
    let routes = Router::new().route("/", get(slow_told));
    let site = Setup::new(routes).on(sessions).start().await;
    let client = site.due().await;
    let id = client.session_id().unwrap();
    let mut seen = None;
    let answer = site
        .during(&client, "/", async {
            seen = site.record(id).await;
        })
        .await;
    assert_eq!(answer.text, seen.unwrap().expiry_date.to_string());
}

/// Somebody else ends the session, while the handler works without ever waiting for anything.
#[tokio::test]
async fn a_cookie_is_not_sent_again_after_long_work_if_the_session_has_ended() {
    #[session_refresh]
    async fn works(
        session: Session,
        Extension((clock, other)): Extension<(TestClock, MemoryStore)>,
    ) {
        let id = session.id().unwrap();
        let mut ended = pin!(other.delete(&id));
        let mut context = Context::from_waker(Waker::noop());
        assert!(ended.as_mut().poll(&mut context).is_ready());
        clock.advance(Duration::seconds(1));
    }

    let (clock, store) = (TestClock::default(), MemoryStore::default());
    let sessions = LifetimeLayer::new(store.clone(), |store| {
        SessionManagerLayer::new(store)
            .with_secure(false)
            .with_expiry(Expiry::OnInactivity(Duration::days(14)))
    });
    let routes = Router::new()
        .route("/", get(works))
        .layer(Extension((clock.clone(), store)))
        .merge(login_routes())
        .layer(sessions.with_clock(clock.as_fn()));
    let server = Server::start(routes).await;
    let client = server.client();
    client.post("/login/user").await;
    clock.advance(Duration::DAY);
    let answer = client.get("/").await;
    assert_eq!((answer.status.as_u16(), answer.set_cookie()), (200, ""));
}

/// A13.
#[tokio::test]
async fn an_attribute_inside_of_a_groups_policy_decides_alone() {
    #[session_refresh]
    async fn own() {}
    #[session_refresh(skip_unauthenticated = false)]
    async fn anybody(refresh: RefreshInfo) -> String {
        refresh.outcome.to_string()
    }
    #[session_refresh(interval = "48h")]
    async fn seldom() {}
    /// Something that waits on the way from the group to the route.
    async fn waits(request: Request, next: Next) -> Response {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        next.run(request).await
    }

    let memory = Memory::connect().await;
    let slow = Router::new()
        .route("/slow/own", get(own))
        .route("/slow/anybody", get(anybody))
        .route("/slow/seldom", get(seldom))
        .layer(from_fn(waits));
    let group = Router::new()
        .route("/own", get(own))
        .route("/anybody", get(anybody))
        .route("/seldom", get(seldom))
        .route("/none", get(async || ()))
        .route(
            "/told",
            get(async |refresh: RefreshInfo| refresh.outcome.to_string()),
        )
        .merge(slow)
        .layer(
            RefreshLayer::new()
                .user::<CurrentUser>()
                .policy(Policy::every(Duration::DAY).skip_staff(true)),
        );
    let site = Setup::new(group)
        .without_user_source()
        .on(Owned(memory.touching()))
        .start()
        .await;
    for (path, outcome, lookups) in [
        ("/own", "refreshed", 1),
        ("/slow/own", "refreshed", 1),
        ("/anybody", "refreshed", 0),
        ("/slow/anybody", "refreshed", 0),
        ("/seldom", "not_due", 0),
        ("/slow/seldom", "not_due", 0),
        ("/none", "staff", 1),
        ("/told", "staff", 1),
    ] {
        let client = site.login("staff").await;
        site.clock.advance(Duration::DAY);
        let before = site.lookups.count();
        let answer = client.get(path).await;
        assert_eq!(answer.outcome(), outcome, "{path}");
        assert_eq!(site.lookups.count() - before, lookups, "{path}");
        let touches = usize::from(outcome == "refreshed");
        assert_eq!(site.counts().touches, touches, "{path}");
        if !answer.text.is_empty() {
            assert_eq!(answer.text, outcome, "{path}");
        }
    }
}

/// A12: whatever runs beside the handler, a refresh adds nothing to what it does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_spawned_task_does_to_the_session_is_as_without_a_refresh() {
    #[derive(Clone, Copy, Debug)]
    enum Task {
        Insert,
        Load,
        Flush,
    }

    #[session_refresh]
    async fn spawns(
        session: Session,
        Extension(task): Extension<Task>,
        Extension(gate): Extension<Gate>,
    ) {
        tokio::spawn(async move {
            for _ in 0..rounds_to_wait() {
                tokio::task::yield_now().await;
            }
            match task {
                Task::Insert => {
                    session.insert("cart", ["a book"]).await.unwrap();
                    session.save().await.unwrap();
                }
                Task::Load => session.load().await.unwrap(),
                Task::Flush => session.flush().await.unwrap(),
            }
            gate.arrive();
        });
    }

    /// As many as put the task anywhere in what comes after the handler.
    fn rounds_to_wait() -> usize {
        use std::sync::atomic::{AtomicUsize, Ordering};
        static ROUND: AtomicUsize = AtomicUsize::new(0);
        ROUND.fetch_add(1, Ordering::Relaxed) % 40
    }

    for task in [Task::Insert, Task::Load, Task::Flush] {
        let memory = Memory::connect().await;
        let routes = Router::new()
            .route("/", get(spawns))
            .route("/add", post(add))
            .layer(Extension(task));
        let site = Setup::new(routes)
            .on(Owned(memory.touching()))
            .start()
            .await;
        for round in 0..200 {
            let client = site.due().await;
            let id = client.session_id().unwrap();
            let (answer, other) = tokio::join!(client.get("/"), async {
                // Another request's change, which the task must not have overwritten by a refresh.
                if matches!(task, Task::Load) {
                    client.post("/add").await;
                }
            });
            let () = other;
            assert_eq!(answer.status, StatusCode::OK);
            site.gate.arrived().await;
            let record = site.record(id).await;
            match task {
                Task::Insert | Task::Load => {
                    assert!(
                        record.unwrap().data.contains_key("cart"),
                        "{task:?} {round}"
                    );
                }
                Task::Flush => assert_eq!(record, None, "{round}"),
            }
            let counts = site.counts();
            assert_eq!(counts.creates, 0, "{task:?} {round}");
        }
    }
}

/// As `SECURITY.md` has it.
fn is_cross_site(request: &Parts) -> bool {
    let site = request.headers.get("sec-fetch-site");
    site.is_some_and(|site| site == "cross-site")
}

#[session_refresh(interval = "1h", skip_if = is_cross_site)]
async fn embedded() {}

async fn a_cross_site_request_can_be_made_none<K: Sessions>(sessions: K) {
    let routes = Router::new().route("/", get(embedded));
    let site = Setup::new(routes).on(sessions).start().await;
    let client = site.due().await;
    for (from, outcome) in [
        ("cross-site", "predicate"),
        ("same-site", "refreshed"),
        ("cross-site", "predicate"),
        ("same-origin", "not_due"),
        ("none", "not_due"),
    ] {
        let left = site.left(&client).await;
        let answer = client.get_with("/", "sec-fetch-site", from).await;
        assert_eq!(answer.outcome(), outcome, "{from}");
        let is_extended = !about(site.left(&client).await, left);
        assert_eq!(is_extended, outcome == "refreshed", "{from}");
    }
}
