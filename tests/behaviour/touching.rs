//! What holds under a `LifetimeLayer`, on every store: a refresh is a touch on arrival, and harms nothing.

use std::sync::Arc;

use axum::{
    Extension, Json, Router,
    extract::Path,
    routing::{get, post},
};
use serde_json::{Value, json};
use session_refresh::{RefreshInfo, session_refresh};
use session_refresh_tests::{
    Counts, Gate, Owned, Sessions, Setup, Site,
    backends::{Backend as _, Memory, Sqlite},
};
use time::{Duration, OffsetDateTime};
use tower_sessions::{Expiry, Session, SessionStore};

use crate::{about, only_loads};

on_touching_stores![
    a_refresh_moves_the_expiry_and_nothing_else,
    a_slow_page_loses_no_other_requests_item,
    a_slow_page_undoes_no_other_requests_logout,
    a_page_that_loads_afresh_loses_no_other_requests_item,
    a_page_that_loads_afresh_sees_what_others_have_changed,
    twenty_racing_requests_refresh_once,
    a_change_that_was_saved_and_undone_is_undone_in_the_store,
    a_handler_that_gives_its_session_a_new_id_keeps_it_alive,
    a_handler_that_ends_its_session_ends_it,
    a_handler_that_begins_anew_has_nothing_but_what_it_put_in,
    a_handler_that_clears_its_session_leaves_an_empty_one,
    a_handler_that_saves_what_it_has_not_changed_extends_it,
    a_handler_that_changes_its_session_changes_it,
    a_handler_that_undoes_its_change_writes_nothing,
    a_handler_that_shortens_its_session_shortens_it,
    a_session_shortened_while_another_request_extends_it_is_shortened,
    with_always_save_every_request_touches,
    a_session_that_ends_with_the_browser_is_refreshed,
    a_session_with_a_fixed_end_is_not,
    the_store_holds_nothing_but_the_applications_data,
    a_megabyte_is_refreshed,
    what_a_handler_marks_as_modified_without_a_change_does_not_hide_a_logout,
    a_session_that_has_ended_is_no_session,
];

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
async fn slow_load(session: Session, Extension(gate): Extension<Gate>) -> Json<Value> {
    gate.pass().await;
    session.load().await.unwrap();
    Json(session.get("cart").await.unwrap().unwrap_or_default())
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
        "shorten_alone" => session.set_expiry(Some(Expiry::OnInactivity(Duration::HOUR))),
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

async fn fill(session: Session, Path(bytes): Path<usize>) {
    session.insert("fill", "x".repeat(bytes)).await.unwrap();
}

async fn set_expiry(session: Session) {
    session.set_expiry(Some(Expiry::OnInactivity(60 * DAY)));
}

fn setup<K: Sessions>(sessions: K) -> Setup<K> {
    let routes = Router::new()
        .route("/page", get(page))
        .route("/slow", get(slow))
        .route("/slow_flash", get(slow_flash))
        .route("/slow_load", get(slow_load))
        .route("/load_between", get(load_between))
        .route("/undo", get(undo))
        .route("/do/{action}", get(action))
        .route("/add/{item}", post(add))
        .route("/cart", get(cart))
        .route("/role", get(role))
        .route("/set_expiry", post(set_expiry))
        .route("/fill/{bytes}", post(fill))
        .layer(Extension(
            Arc::new(sessions.store()) as Arc<dyn SessionStore>
        ));
    Setup::new(routes)
        .without_user_source()
        .expiry(Expiry::OnInactivity(14 * DAY))
        .on(sessions)
}

async fn site<K: Sessions>(sessions: K) -> Site<K> {
    setup(sessions).start().await
}

async fn a_refresh_moves_the_expiry_and_nothing_else<K: Sessions>(sessions: K) {
    let site = site(sessions).await;
    let client = site.due().await;
    client.post("/add/tea").await;
    site.clock.advance(DAY);
    assert!(about(site.left(&client).await, 13 * DAY));
    let data = site.session(&client).await.data;

    let due = client.get("/page").await;
    assert_eq!((due.status.as_u16(), due.outcome()), (200, "refreshed"));
    assert!(due.text.contains("\"refreshed\":true"), "{}", due.text);
    assert!(due.set_cookie().contains("Max-Age=1209600"), "{due:?}");
    assert!(about(site.left(&client).await, 14 * DAY));
    let refreshed = site.session(&client).await;
    assert_eq!(refreshed.data, data);
    assert_eq!(due.expires_at(), Some(refreshed.expiry_date));

    site.clock.advance(DAY - Duration::SECOND);
    let not_due = client.get("/page").await;
    assert_eq!((not_due.outcome(), not_due.set_cookie()), ("not_due", ""));
    assert_eq!(site.session(&client).await, refreshed);
    site.clock.advance(Duration::seconds(2));
    assert_eq!(client.get("/page").await.outcome(), "refreshed");
    // Without an annotated request the session ends.
    site.clock.advance(13 * DAY);
    assert_eq!(client.get("/role").await.text, "user");
    site.clock.advance(DAY);
    assert_eq!(client.get("/role").await.text, "");
}

async fn a_slow_page_loses_no_other_requests_item<K: Sessions>(sessions: K) {
    let site = site(sessions).await;
    let client = site.due().await;
    let page = site
        .during(&client, "/slow", async {
            client.post("/add/salt").await;
        })
        .await;
    assert_eq!((page.status.as_u16(), page.outcome()), (200, "refreshed"));
    assert!(!page.set_cookie().is_empty());
    assert_eq!(client.get("/cart").await.text, r#"["salt"]"#);
    assert!(about(site.left(&client).await, 14 * DAY));
}

async fn a_page_that_loads_afresh_loses_no_other_requests_item<K: Sessions>(sessions: K) {
    let site = site(sessions).await;
    let client = site.due().await;
    assert_eq!(client.get("/load_between").await.outcome(), "refreshed");
    assert_eq!(client.get("/cart").await.text, r#"["sugar"]"#);
    assert!(about(site.left(&client).await, 14 * DAY));
}

/// What was loaded to decide is not what `Session::load` answers with later.
async fn a_page_that_loads_afresh_sees_what_others_have_changed<K: Sessions>(sessions: K) {
    let site = site(sessions).await;
    for is_due in [true, false] {
        let client = site.login("user").await;
        if is_due {
            site.clock.advance(DAY);
        }
        let page = site
            .during(&client, "/slow_load", async {
                client.post("/add/salt").await;
            })
            .await;
        assert_eq!(page.text, r#"["salt"]"#);
    }
}

async fn a_slow_page_undoes_no_other_requests_logout<K: Sessions>(sessions: K) {
    let site = site(sessions).await;
    let client = site.due().await;
    let id = client.session_id().unwrap();
    let page = site
        .during(&client, "/slow", async {
            client.post("/logout").await;
        })
        .await;
    // It was true when it was read.
    assert_eq!((page.status.as_u16(), page.outcome()), (200, "refreshed"));
    assert_eq!(page.set_cookie(), "");
    let thief = site.visitor();
    let cookie = format!("id={id}");
    assert_eq!(thief.get_with("/role", "cookie", &cookie).await.text, "");
    assert_eq!(site.record(id).await, None);
}

async fn twenty_racing_requests_refresh_once<K: Sessions>(sessions: K) {
    let site = site(sessions).await;
    let client = site.due().await;
    let pages: Vec<_> = (0..20)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { client.get("/slow").await })
        })
        .collect();
    for _ in 0..20 {
        site.gate.arrived().await;
    }
    for _ in 0..20 {
        site.gate.open();
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

async fn a_change_that_was_saved_and_undone_is_undone_in_the_store<K: Sessions>(sessions: K) {
    let site = site(sessions).await;
    let client = site.due().await;
    assert_eq!(client.get("/undo").await.outcome(), "refreshed");
    let record = site.session(&client).await;
    assert!(
        !record.data.contains_key("draft") && record.data.contains_key("role"),
        "{record:?}"
    );
    assert!(about(site.left(&client).await, 14 * DAY));
}

async fn a_handler_that_gives_its_session_a_new_id_keeps_it_alive<K: Sessions>(sessions: K) {
    let site = site(sessions).await;
    let client = site.due().await;
    let old = client.session_id().unwrap();
    assert_eq!(client.get("/do/cycle").await.outcome(), "refreshed");
    assert_eq!(site.record(old).await, None);
    assert_ne!(client.session_id(), Some(old));
    assert_eq!(client.get("/role").await.text, "user");
    assert!(about(site.left(&client).await, 14 * DAY));
}

async fn a_handler_that_ends_its_session_ends_it<K: Sessions>(sessions: K) {
    let site = site(sessions).await;
    let client = site.due().await;
    let id = client.session_id().unwrap();
    let answer = client.get("/do/flush").await;
    assert!(answer.removes_cookie(), "{answer:?}");
    assert_eq!(site.record(id).await, None);
    let counts = site.counts();
    assert_eq!((counts.creates, counts.saves), (0, 0), "{counts:?}");
}

/// tower-sessions begins the new session under the old id.
async fn a_handler_that_begins_anew_has_nothing_but_what_it_put_in<K: Sessions>(sessions: K) {
    let site = site(sessions).await;
    let client = site.due().await;
    client.get("/do/flush_and_insert").await;
    let record = site.session(&client).await;
    assert_eq!(record.data, [("flash".to_owned(), json!("bye"))].into());
}

async fn a_handler_that_clears_its_session_leaves_an_empty_one<K: Sessions>(sessions: K) {
    let site = site(sessions).await;
    let client = site.due().await;
    // It is there, and has been extended.
    assert_eq!(client.get("/do/clear").await.outcome(), "refreshed");
    assert!(site.session(&client).await.data.is_empty());
}

async fn a_handler_that_saves_what_it_has_not_changed_extends_it<K: Sessions>(sessions: K) {
    let site = site(sessions).await;
    let client = site.login("user").await;
    site.clock.advance(Duration::HOUR);
    assert_eq!(client.get("/do/save").await.outcome(), "not_due");
    let counts = site.counts();
    assert_eq!((counts.saves, counts.touches), (0, 1), "{counts:?}");
    assert!(about(site.left(&client).await, 14 * DAY));
}

async fn a_handler_that_changes_its_session_changes_it<K: Sessions>(sessions: K) {
    let site = site(sessions).await;
    let client = site.due().await;
    assert_eq!(client.get("/do/insert").await.outcome(), "refreshed");
    let counts = site.counts();
    assert_eq!((counts.saves, counts.touches), (1, 1), "{counts:?}");
    assert_eq!(client.get("/role").await.text, "changed");
    assert!(about(site.left(&client).await, 14 * DAY));
}

async fn a_handler_that_undoes_its_change_writes_nothing<K: Sessions>(sessions: K) {
    let site = site(sessions).await;
    let client = site.due().await;
    let answer = client.get("/do/insert_and_remove").await;
    assert_eq!(answer.outcome(), "refreshed");
    let counts = site.counts();
    assert_eq!((counts.saves, counts.touches), (0, 1), "{counts:?}");
}

async fn a_handler_that_shortens_its_session_shortens_it<K: Sessions>(sessions: K) {
    let site = site(sessions).await;
    for path in ["/do/shorten", "/do/shorten_alone"] {
        let client = site.due().await;
        let answer = client.get(path).await;
        assert!(answer.set_cookie().contains("Max-Age=3600"), "{answer:?}");
        assert!(about(site.left(&client).await, Duration::HOUR), "{path}");
        assert_eq!(client.get("/role").await.text, "user");
    }
}

async fn a_session_shortened_while_another_request_extends_it_is_shortened<K: Sessions>(
    sessions: K,
) {
    async fn slow_shorten(session: Session, Extension(gate): Extension<Gate>) {
        let _: Option<String> = session.get("role").await.unwrap();
        gate.pass().await;
        session.set_expiry(Some(Expiry::OnInactivity(2 * Duration::HOUR)));
    }
    let routes = Router::new()
        .route("/slow_shorten", get(slow_shorten))
        .route("/page", get(page));
    let site = Setup::new(routes)
        .expiry(Expiry::OnInactivity(14 * DAY))
        .on(sessions)
        .start()
        .await;
    let client = site.login("user").await;
    // One hour is left.
    site.clock.advance(14 * DAY - Duration::HOUR);
    site.during(&client, "/slow_shorten", async {
        assert_eq!(client.get("/page").await.outcome(), "refreshed");
    })
    .await;
    assert!(about(site.left(&client).await, 2 * Duration::HOUR));
}

async fn with_always_save_every_request_touches<K: Sessions>(sessions: K) {
    let site = setup(sessions).always_save().start().await;
    let client = site.due().await;
    assert!(client.get("/role").await.set_cookie().contains("Max-Age"));
    assert!(about(site.left(&client).await, 14 * DAY));
    // A save of every request that would lose an item, were it a save.
    site.clock.advance(DAY);
    let page = site
        .during(&client, "/slow", async {
            client.post("/add/salt").await;
        })
        .await;
    assert_eq!(page.status, 200);
    assert_eq!(client.get("/cart").await.text, r#"["salt"]"#);
    // `set_expiry` without a change of data.
    client.post("/set_expiry").await;
    assert!(about(site.left(&client).await, 60 * DAY));
}

async fn a_session_that_ends_with_the_browser_is_refreshed<K: Sessions>(sessions: K) {
    let site = setup(sessions).expiry(Expiry::OnSessionEnd).start().await;
    let client = site.due().await;
    let page = client.get("/page").await;
    assert_eq!(page.outcome(), "refreshed");
    assert!(page.set_cookie().contains("id=") && !page.set_cookie().contains("Max-Age"));
    assert!(about(site.left(&client).await, 14 * DAY));
}

async fn a_session_with_a_fixed_end_is_not<K: Sessions>(sessions: K) {
    let end = OffsetDateTime::now_utc() + 5 * DAY;
    let site = setup(sessions)
        .expiry(Expiry::AtDateTime(end))
        .start()
        .await;
    let client = site.due().await;
    let before = site.session(&client).await;
    let page = client.get("/page").await;
    assert_eq!((page.outcome(), page.set_cookie()), ("fixed_expiry", ""));
    assert!(page.text.contains("\"refreshed\":false"));
    assert_eq!(page.expires_at(), Some(before.expiry_date));
    assert_eq!(site.session(&client).await, before);
    // The store keeps milliseconds.
    assert!((before.expiry_date - end).abs() < Duration::MILLISECOND);
}

#[tokio::test]
async fn a_lifetime_beyond_the_end_of_time_is_no_reason_to_panic() {
    let sessions = Owned(Memory::connect().await.touching());
    let short = site(sessions.clone()).await;
    let client = short.due().await;
    let endless = setup(sessions)
        .expiry(Expiry::OnInactivity(Duration::MAX))
        .start()
        .await;
    let cookie = format!("id={}", client.session_id().unwrap());
    let page = endless.visitor().get_with("/page", "cookie", &cookie).await;
    assert_eq!((page.status.as_u16(), page.outcome()), (200, "refreshed"));
}

async fn the_store_holds_nothing_but_the_applications_data<K: Sessions>(sessions: K) {
    let site = site(sessions).await;
    let client = site.due().await;
    for path in ["/page", "/do/insert", "/undo", "/do/cycle"] {
        client.get(path).await;
        let record = site.session(&client).await;
        let keys: Vec<_> = record.data.keys().map(String::as_str).collect();
        assert_eq!(keys, ["role"], "{path}");
        site.clock.advance(DAY);
    }
}

async fn a_megabyte_is_refreshed<K: Sessions>(sessions: K) {
    // Upstream's table for MySQL holds 64 KB.
    let is_mysql = std::any::type_name::<K>().contains("MySql");
    let bytes = if is_mysql { 60_000 } else { 1_000_000 };
    let site = site(sessions).await;
    let client = site.login("user").await;
    client.post(&format!("/fill/{bytes}")).await;
    site.clock.advance(DAY);
    let _ = site.counts();
    assert_eq!(client.get("/page").await.outcome(), "refreshed");
    let touched = Counts {
        touches: 1,
        ..only_loads(1)
    };
    assert_eq!(site.counts(), touched);
    assert!(about(site.left(&client).await, 14 * DAY));
    let fill = site.value(&client, "fill").await.unwrap();
    assert_eq!(fill.as_str().unwrap().len(), bytes);
}

async fn what_a_handler_marks_as_modified_without_a_change_does_not_hide_a_logout<K: Sessions>(
    sessions: K,
) {
    let site = site(sessions).await;
    let client = site.due().await;
    let id = client.session_id().unwrap();
    site.during(&client, "/slow_flash", async {
        client.post("/logout").await;
    })
    .await;
    assert_eq!(site.record(id).await, None);
    let client = site.due().await;
    site.gate.open();
    assert_eq!(client.get("/slow_flash").await.outcome(), "refreshed");
    assert!(about(site.left(&client).await, 14 * DAY));
}

async fn a_session_that_has_ended_is_no_session<K: Sessions>(sessions: K) {
    let site = site(sessions).await;
    let client = site.login("user").await;
    site.clock.advance(14 * DAY);
    let answer = client.get("/page").await;
    // A page that uses no session leaves the cookie alone.
    assert_eq!((answer.outcome(), answer.set_cookie()), ("no_session", ""));
    assert_eq!(client.get("/role").await.text, "");
}

#[tokio::test]
async fn a_refresh_writes_no_data_however_it_was_encoded() {
    let backend = Sqlite::connect().await;
    let site = site(Owned(backend.touching())).await;
    let client = site.due().await;
    let id = client.session_id().unwrap();
    let read = async || -> Vec<u8> {
        sqlx::query_scalar("select data from tower_sessions where id = ?")
            .bind(id.to_string())
            .fetch_one(&backend.pool)
            .await
            .unwrap()
    };
    // Not as short as can be: the length of a text in a byte of its own.
    let mut data = read().await;
    let user = data
        .windows(5)
        .position(|bytes| bytes == b"\xa4user")
        .unwrap();
    data.splice(user..user + 5, *b"\xd9\x04user");
    sqlx::query("update tower_sessions set data = ? where id = ?")
        .bind(&data)
        .bind(id.to_string())
        .execute(&backend.pool)
        .await
        .unwrap();
    assert_eq!(client.get("/page").await.outcome(), "refreshed");
    assert!(about(site.left(&client).await, 14 * DAY));
    assert_eq!(read().await, data);
}
