//! An application on a `RefreshStore`, over real HTTP.

use std::sync::Arc;

use axum::{
    Extension, Json, Router,
    extract::Path,
    routing::{get, post},
};
use serde_json::{Value, json};
use session_refresh::{RefreshInfo, session_refresh, store::RefreshStore};
use session_refresh_tests::{
    Client, Gate, Server, TestClock,
    backends::{Backend, Sqlite},
    login_routes, on_every_store,
};
use time::{Duration, OffsetDateTime};
use tower_sessions::{
    Expiry, Session, SessionManagerLayer, SessionStore,
    session::{Id, Record},
};

on_every_store!(
    a_refresh_moves_the_expiry_and_nothing_else,
    a_slow_page_loses_no_other_requests_item,
    a_slow_page_undoes_no_other_requests_logout,
    a_page_that_loads_afresh_loses_no_other_requests_item,
    twenty_racing_requests_refresh_once,
    a_change_that_was_saved_and_undone_is_undone_in_the_store,
    a_handler_may_do_with_its_session_what_it_likes,
    with_always_save_every_request_touches,
    a_refresh_never_shortens_a_remembered_session,
    a_session_without_inactivity_expiry_is_refreshed_and_one_with_a_fixed_end_is_not,
    what_a_record_carries_never_reaches_the_store,
    a_megabyte_is_refreshed,
    what_a_handler_marks_as_modified_without_a_change_of_data_does_not_hide_a_logout,
    an_expired_session_is_gone,
);

const DAY: Duration = Duration::DAY;

#[session_refresh(interval = "24h")]
async fn page(refresh: RefreshInfo) -> Json<Value> {
    Json(json!({
        "refreshed": refresh.refreshed,
        "expires_in": refresh.expires_at.map(|end| (end - OffsetDateTime::now_utc()).whole_seconds()),
    }))
}

#[session_refresh(interval = "24h")]
async fn slow(Extension(gate): Extension<Gate>) {
    gate.pass().await;
}

/// Takes a message out of the session that is not there, which marks the session as modified.
#[session_refresh(interval = "24h")]
async fn slow_flash(session: Session, Extension(gate): Extension<Gate>) {
    session.remove_value("flash").await.unwrap();
    gate.pass().await;
}

/// Loads afresh what others have changed, and then they change it again. Neither change extends the session.
#[session_refresh(interval = "24h")]
async fn load_between(session: Session, Extension(store): Extension<Arc<dyn SessionStore>>) {
    let id = session.id().unwrap();
    let change = async |item: &str| {
        let mut record = store.load(&id).await.unwrap().unwrap();
        record.data.insert("cart".to_owned(), json!([item]));
        store.save(&record).await.unwrap();
    };
    change("salt").await;
    session.load().await.unwrap();
    change("sugar").await;
}

#[session_refresh(interval = "24h")]
async fn undo(session: Session) {
    session.insert("draft", "text").await.unwrap();
    session.save().await.unwrap();
    session.remove_value("draft").await.unwrap();
}

#[session_refresh(interval = "24h")]
async fn action(session: Session, Path(action): Path<String>) {
    match action.as_str() {
        "cycle" => session.cycle_id().await.unwrap(),
        "flush" => session.flush().await.unwrap(),
        "clear" => session.clear().await,
        "load" => session.load().await.unwrap(),
        "save" => session.save().await.unwrap(),
        "insert" => session.insert("role", "changed").await.unwrap(),
        "insert_and_remove" => {
            session.insert("x", 1).await.unwrap();
            session.remove_value("x").await.unwrap();
        }
        "shorten" => {
            session.insert("shortened", true).await.unwrap();
            session.set_expiry(Some(Expiry::OnInactivity(Duration::HOUR)));
        }
        "flush_and_insert" => {
            session.flush().await.unwrap();
            session.insert("flash", "bye").await.unwrap();
        }
        other => panic!("{other}"),
    }
}

async fn add(session: Session, Path(item): Path<String>) {
    let mut cart: Vec<String> = session.get("cart").await.unwrap().unwrap_or_default();
    cart.push(item);
    session.insert("cart", cart).await.unwrap();
}

async fn cart(session: Session) -> Json<Value> {
    Json(session.get("cart").await.unwrap().unwrap_or_default())
}

async fn role(session: Session) -> String {
    session.get("role").await.unwrap().unwrap_or_default()
}

async fn remember(session: Session) {
    session.set_expiry(Some(Expiry::OnInactivity(30 * DAY)));
    session.insert("remembered", true).await.unwrap();
}

async fn fill(session: Session, Path(bytes): Path<usize>) {
    session.insert("fill", "x".repeat(bytes)).await.unwrap();
}

async fn set_expiry(session: Session) {
    session.set_expiry(Some(Expiry::OnInactivity(60 * DAY)));
}

/// The application, and what a test holds of it.
struct App<B: Backend> {
    backend: B,
    clock: TestClock,
    gate: Gate,
    server: Server,
}

impl<B: Backend> App<B> {
    async fn start(backend: B) -> Self {
        Self::with(backend, |sessions| {
            sessions.with_expiry(Expiry::OnInactivity(14 * DAY))
        })
        .await
    }

    async fn with(
        backend: B,
        configure: impl FnOnce(
            SessionManagerLayer<RefreshStore<B::Touching>>,
        ) -> SessionManagerLayer<RefreshStore<B::Touching>>,
    ) -> Self {
        let (clock, gate) = (TestClock::default(), Gate::default());
        let store = RefreshStore::new(backend.touching()).with_clock(clock.as_fn());
        let app = Router::new()
            .route("/page", get(page))
            .route("/slow", get(slow))
            .route("/slow_flash", get(slow_flash))
            .route("/load_between", get(load_between))
            .route("/undo", get(undo))
            .route("/do/{action}", get(action))
            .route("/add/{item}", post(add))
            .route("/cart", get(cart))
            .route("/role", get(role))
            .route("/remember", post(remember))
            .route("/set_expiry", post(set_expiry))
            .route("/fill/{bytes}", post(fill))
            .merge(login_routes())
            .layer(Extension(gate.clone()))
            .layer(Extension(
                Arc::new(backend.touching()) as Arc<dyn SessionStore>
            ))
            .layer(configure(
                SessionManagerLayer::new(store).with_secure(false),
            ));
        let server = Server::start(app).await;
        Self {
            backend,
            clock,
            gate,
            server,
        }
    }

    /// The session's record as the store has it.
    async fn record(&self, id: Id) -> Option<Record> {
        self.backend.touching().load(&id).await.unwrap()
    }

    /// How long the record lives by the test's clock.
    async fn left(&self, id: Id) -> Duration {
        self.record(id)
            .await
            .expect("the session is live")
            .expiry_date
            - self.clock.now()
    }

    /// A client that logged in, its session's id, and the time when a refresh is due.
    async fn due(&self) -> (Client, Id) {
        let client = self.server.client();
        let id = session_id(client.post("/login/user").await.set_cookie());
        client.post("/add/tea").await;
        self.clock.advance(DAY);
        (client, id)
    }
}

fn session_id(set_cookie: &str) -> Id {
    let value = set_cookie
        .split(['=', ';'])
        .nth(1)
        .expect("a session cookie");
    value.parse().expect("a session id")
}

fn about(duration: Duration, expected: Duration) -> bool {
    (duration - expected).abs() < Duration::minutes(1)
}

async fn a_refresh_moves_the_expiry_and_nothing_else<B: Backend>(backend: B) {
    let app = App::start(backend).await;
    let (client, id) = app.due().await;
    assert!(about(app.left(id).await, 13 * DAY));
    let data = app.record(id).await.unwrap().data;

    let due = client.get("/page").await;
    assert_eq!((due.status.as_u16(), due.outcome()), (200, "refreshed"));
    assert!(due.text.contains("\"refreshed\":true"), "{}", due.text);
    assert!(
        due.set_cookie().contains("Max-Age=1209600"),
        "{}",
        due.set_cookie()
    );
    assert!(about(app.left(id).await, 14 * DAY));
    assert_eq!(app.record(id).await.unwrap().data, data);

    app.clock.advance(DAY - Duration::SECOND);
    let before = app.record(id).await;
    let not_due = client.get("/page").await;
    assert_eq!((not_due.outcome(), not_due.set_cookie()), ("not_due", ""));
    assert_eq!(app.record(id).await, before);
    app.clock.advance(Duration::seconds(2));
    assert_eq!(client.get("/page").await.outcome(), "refreshed");
    // Without an annotated request the session ends.
    app.clock.advance(13 * DAY);
    assert_eq!(client.get("/role").await.text, "user");
    app.clock.advance(DAY);
    assert_eq!(client.get("/role").await.text, "");
}

async fn a_slow_page_loses_no_other_requests_item<B: Backend>(backend: B) {
    let app = App::start(backend).await;
    for _ in 0..20 {
        let (client, id) = app.due().await;
        let page = tokio::spawn({
            let client = client.clone();
            async move { client.get("/slow").await }
        });
        app.gate.arrived().await;
        client.post("/add/salt").await;
        app.gate.open();
        let page = page.await.unwrap();
        // The other request's save has extended the session already.
        assert_eq!((page.status.as_u16(), page.outcome()), (200, "not_due"));
        assert_eq!(client.get("/cart").await.text, r#"["tea","salt"]"#);
        assert!(about(app.left(id).await, 14 * DAY));
    }
}

async fn a_page_that_loads_afresh_loses_no_other_requests_item<B: Backend>(backend: B) {
    let app = App::start(backend).await;
    let (client, id) = app.due().await;
    assert_eq!(client.get("/load_between").await.outcome(), "refreshed");
    assert_eq!(client.get("/cart").await.text, r#"["sugar"]"#);
    assert!(about(app.left(id).await, 14 * DAY));
}

async fn a_slow_page_undoes_no_other_requests_logout<B: Backend>(backend: B) {
    let app = App::start(backend).await;
    for _ in 0..20 {
        let (client, id) = app.due().await;
        let (thief, cookie) = (app.server.client(), format!("id={id}"));
        let page = tokio::spawn({
            let client = client.clone();
            async move { client.get("/slow").await }
        });
        app.gate.arrived().await;
        client.post("/logout").await;
        app.gate.open();
        let page = page.await.unwrap();
        assert_eq!((page.status.as_u16(), page.outcome()), (200, "gone"));
        assert_eq!(page.set_cookie(), "");
        assert_eq!(thief.get_with("/role", "cookie", &cookie).await.text, "");
        assert_eq!(app.record(id).await, None);
    }
}

async fn twenty_racing_requests_refresh_once<B: Backend>(backend: B) {
    let app = App::start(backend).await;
    let (client, _) = app.due().await;
    let pages: Vec<_> = (0..20)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { client.get("/slow").await })
        })
        .collect();
    // All have decided before the first one commits.
    for _ in 0..20 {
        app.gate.arrived().await;
    }
    for _ in 0..20 {
        app.gate.open();
    }
    let mut refreshed = 0;
    for page in pages {
        let page = page.await.unwrap();
        assert_eq!(page.status, 200);
        assert_eq!(page.outcome() == "refreshed", !page.set_cookie().is_empty());
        refreshed += usize::from(page.outcome() == "refreshed");
    }
    assert_eq!(refreshed, 1);
}

async fn a_change_that_was_saved_and_undone_is_undone_in_the_store<B: Backend>(backend: B) {
    let app = App::start(backend).await;
    let (client, id) = app.due().await;
    // The handler's own save has extended the session already.
    assert_eq!(client.get("/undo").await.outcome(), "not_due");
    let record = app.record(id).await.unwrap();
    assert!(
        !record.data.contains_key("draft") && record.data.contains_key("cart"),
        "{record:?}"
    );
    assert!(about(app.left(id).await, 14 * DAY));
}

async fn a_handler_may_do_with_its_session_what_it_likes<B: Backend>(backend: B) {
    let app = App::start(backend).await;
    for (action, outcome, role) in [
        ("cycle", "gone", "user"),
        ("flush", "gone", ""),
        ("flush_and_insert", "gone", ""),
        ("clear", "gone", ""),
        ("load", "refreshed", "user"),
        ("save", "not_due", "user"),
        ("insert", "refreshed", "changed"),
        ("insert_and_remove", "refreshed", "user"),
        ("shorten", "refreshed", "user"),
    ] {
        let (client, id) = app.due().await;
        let answer = client.get(&format!("/do/{action}")).await;
        assert_eq!(
            (answer.status.as_u16(), answer.outcome()),
            (200, outcome),
            "{action}"
        );
        assert_eq!(client.get("/role").await.text, role, "{action}");
        let old = app.record(id).await;
        assert_eq!(
            old.is_none(),
            ["cycle", "flush"].contains(&action),
            "{action}"
        );
        match action {
            "clear" => assert_eq!(old.unwrap().data.len(), 0),
            // tower-sessions begins the new session under the old id.
            "flush_and_insert" => assert_eq!(old.unwrap().data.len(), 1),
            "shorten" => assert!(about(app.left(id).await, Duration::HOUR)),
            _ if old.is_some() => assert!(about(app.left(id).await, 14 * DAY), "{action}"),
            _ => {}
        }
        if action == "cycle" {
            let new = session_id(answer.set_cookie());
            assert!(new != id && about(app.left(new).await, 14 * DAY));
        }
    }
}

async fn with_always_save_every_request_touches<B: Backend>(backend: B) {
    let app = App::with(backend, |sessions| {
        sessions
            .with_expiry(Expiry::OnInactivity(14 * DAY))
            .with_always_save(true)
    })
    .await;
    let (client, id) = app.due().await;
    assert!(client.get("/role").await.set_cookie().contains("Max-Age"));
    assert!(about(app.left(id).await, 14 * DAY));
    // A save of every request that would lose an item, were it a save.
    app.clock.advance(DAY);
    let page = tokio::spawn({
        let client = client.clone();
        async move { client.get("/slow").await }
    });
    app.gate.arrived().await;
    client.post("/add/salt").await;
    app.gate.open();
    assert_eq!(page.await.unwrap().status, 200);
    assert_eq!(client.get("/cart").await.text, r#"["tea","salt"]"#);
    // `set_expiry` without a change of data.
    client.post("/set_expiry").await;
    assert!(about(app.left(id).await, 60 * DAY));
}

async fn a_refresh_never_shortens_a_remembered_session<B: Backend>(backend: B) {
    let app = App::with(backend, |sessions| {
        sessions.with_expiry(Expiry::OnInactivity(2 * DAY))
    })
    .await;
    let client = app.server.client();
    let id = session_id(client.post("/login/user").await.set_cookie());
    client.post("/remember").await;
    assert!(about(app.left(id).await, 30 * DAY));
    app.clock.advance(DAY);
    let page = client.get("/page").await;
    assert_eq!((page.outcome(), page.set_cookie()), ("not_due", ""));
    assert!(about(app.left(id).await, 29 * DAY));
    app.clock.advance(28 * DAY);
    assert_eq!(client.get("/page").await.outcome(), "refreshed");
    assert!(about(app.left(id).await, 2 * DAY));
}

async fn a_session_without_inactivity_expiry_is_refreshed_and_one_with_a_fixed_end_is_not<
    B: Backend,
>(
    backend: B,
) {
    let app = App::with(backend.clone(), |sessions| {
        sessions.with_expiry(Expiry::OnSessionEnd)
    })
    .await;
    let (client, id) = app.due().await;
    let page = client.get("/page").await;
    assert_eq!(page.outcome(), "refreshed");
    assert!(page.set_cookie().contains("id=") && !page.set_cookie().contains("Max-Age"));
    assert!(about(app.left(id).await, 14 * DAY));

    let end = OffsetDateTime::now_utc() + 5 * DAY;
    let app = App::with(backend, |sessions| {
        sessions.with_expiry(Expiry::AtDateTime(end))
    })
    .await;
    let (client, id) = app.due().await;
    let before = app.record(id).await;
    let page = client.get("/page").await;
    assert_eq!((page.outcome(), page.set_cookie()), ("fixed_expiry", ""));
    assert!(page.text.contains("\"refreshed\":false"));
    assert_eq!(app.record(id).await, before);
}

#[tokio::test]
async fn a_lifetime_beyond_the_end_of_time_is_no_reason_to_panic() {
    let backend = session_refresh_tests::backends::Memory::connect()
        .await
        .unwrap();
    let short = App::start(backend.clone()).await;
    let (_, id) = short.due().await;
    let endless = App::with(backend, |sessions| {
        sessions.with_expiry(Expiry::OnInactivity(Duration::MAX))
    })
    .await;
    let page = endless
        .server
        .client()
        .get_with("/page", "cookie", &format!("id={id}"))
        .await;
    assert_eq!((page.status.as_u16(), page.outcome()), (200, "refreshed"));
}

async fn what_a_record_carries_never_reaches_the_store<B: Backend>(backend: B) {
    let app = App::start(backend).await;
    let (client, id) = app.due().await;
    for path in ["/page", "/do/insert", "/undo", "/do/cycle"] {
        let answer = client.get(path).await;
        let id = if path == "/do/cycle" {
            session_id(answer.set_cookie())
        } else {
            id
        };
        let record = app.backend.plain().load(&id).await.unwrap().unwrap();
        let mut keys: Vec<_> = record.data.keys().map(String::as_str).collect();
        keys.sort_unstable();
        assert_eq!(keys, ["cart", "role"], "{path}");
        app.clock.advance(DAY);
    }
}

async fn a_megabyte_is_refreshed<B: Backend>(backend: B) {
    let app = App::start(backend).await;
    let (client, id) = app.due().await;
    let bytes = if B::HOLDS_A_MEGABYTE {
        1_000_000
    } else {
        60_000
    };
    client.post(&format!("/fill/{bytes}")).await;
    app.clock.advance(DAY);
    assert_eq!(client.get("/page").await.outcome(), "refreshed");
    assert!(about(app.left(id).await, 14 * DAY));
    assert_eq!(
        app.record(id).await.unwrap().data["fill"]
            .as_str()
            .unwrap()
            .len(),
        bytes
    );
}

async fn what_a_handler_marks_as_modified_without_a_change_of_data_does_not_hide_a_logout<
    B: Backend,
>(
    backend: B,
) {
    let app = App::start(backend).await;
    let (client, id) = app.due().await;
    let page = tokio::spawn({
        let client = client.clone();
        async move { client.get("/slow_flash").await }
    });
    app.gate.arrived().await;
    client.post("/logout").await;
    app.gate.open();
    assert_eq!(page.await.unwrap().outcome(), "gone");
    assert_eq!(app.record(id).await, None);
    let (client, id) = app.due().await;
    app.gate.open();
    assert_eq!(client.get("/slow_flash").await.outcome(), "refreshed");
    assert!(about(app.left(id).await, 14 * DAY));
}

async fn an_expired_session_is_gone<B: Backend>(backend: B) {
    let app = App::start(backend).await;
    // Expired by the clock before the request, and while its page is being made.
    let (client, _) = app.due().await;
    app.clock.advance(13 * DAY);
    assert_eq!(client.get("/page").await.outcome(), "no_session");
    let (client, _) = app.due().await;
    let page = tokio::spawn(async move { client.get("/slow").await });
    app.gate.arrived().await;
    app.clock.advance(14 * DAY);
    app.gate.open();
    assert_eq!(page.await.unwrap().outcome(), "gone");
}

#[tokio::test]
async fn a_refresh_writes_no_data_however_it_was_encoded() {
    let app = App::start(Sqlite::connect().await.unwrap()).await;
    let (client, id) = app.due().await;
    let read = async || -> Vec<u8> {
        sqlx::query_scalar("select data from tower_sessions where id = ?")
            .bind(id.to_string())
            .fetch_one(&app.backend.pool)
            .await
            .unwrap()
    };
    // Not as short as can be: the length of a text in a byte of its own.
    let mut data = read().await;
    let tea = data
        .windows(4)
        .position(|bytes| bytes == b"\xa3tea")
        .unwrap();
    data.splice(tea..tea + 4, *b"\xd9\x03tea");
    sqlx::query("update tower_sessions set data = ? where id = ?")
        .bind(&data)
        .bind(id.to_string())
        .execute(&app.backend.pool)
        .await
        .unwrap();
    let answer = client.get("/page").await;
    assert!(
        answer.text.contains(r#""refreshed":true"#),
        "{}",
        answer.text
    );
    assert!(app.left(id).await > 14 * DAY - Duration::MINUTE);
    assert_eq!(read().await, data);
}
