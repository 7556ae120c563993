//! The cookie that a refresh sends again, and who may keep the response.

use axum::{Router, response::IntoResponse, routing::get};
use session_refresh::session_refresh;
use session_refresh_tests::{Sessions, Setup};
use time::ext::NumericalDuration as _;
use tower_sessions::{Expiry, Session};

use crate::only_loads;

#[session_refresh(interval = "1h", skip_unauthenticated = false)]
async fn page() {}

fn routes() -> Router {
    Router::new().route("/", get(page))
}

on_either_layer![
    cookie_and_store_move_together,
    a_session_that_ends_with_the_browser_is_extended_in_the_store,
    always_save_and_a_refresh_get_along,
    a_handler_that_changes_the_session_answers_for_its_own_caching,
];

async fn cookie_and_store_move_together<K: Sessions>(sessions: K) {
    let site = Setup::new(routes())
        .on(sessions)
        .expiry(Expiry::OnInactivity(3.days()))
        .start()
        .await;
    let client = site.login("user").await;
    let soon = site.clock.now() + 5.minutes();
    site.edit(&client, |record| record.expiry_date = soon).await;

    let id = client.session_id();
    let answer = client.get("/").await;
    let cookie = answer.set_cookie();
    assert!(cookie.contains("Max-Age=259200"), "{cookie}");
    assert_eq!(client.session_id(), id);
    let end = site.session(&client).await.expiry_date;
    assert!(end > soon + 2.days());
    // The store counts from its own clock, a moment later.
    assert!(answer.expires_at().unwrap() <= end);

    let answer = client.get("/").await;
    assert_eq!((answer.outcome(), answer.set_cookie()), ("not_due", ""));
    assert_eq!(site.session(&client).await.expiry_date, end);
}

async fn a_session_that_ends_with_the_browser_is_extended_in_the_store<K: Sessions>(sessions: K) {
    let site = Setup::new(routes())
        .on(sessions)
        .expiry(Expiry::OnSessionEnd)
        .start()
        .await;
    let client = site.login("user").await;
    let soon = site.clock.now() + 5.minutes();
    site.edit(&client, |record| record.expiry_date = soon).await;

    let answer = client.get("/").await;
    assert_eq!(answer.outcome(), "refreshed");
    assert!(answer.set_cookie().starts_with("id="));
    assert!(!answer.set_cookie().contains("Max-Age"), "{answer:?}");
    assert!(site.session(&client).await.expiry_date > soon + 13.days());
    assert_eq!(answer.lifetime(), Some(14.days()));
}

async fn always_save_and_a_refresh_get_along<K: Sessions>(sessions: K) {
    let site = Setup::new(routes())
        .on(sessions)
        .always_save()
        .start()
        .await;
    // Under our layer a page leaves an unknown session unread, and `always_save` then creates one, as without us.
    let unknown: &[&str] = if K::TOUCH {
        &[]
    } else {
        &["id=AAAAAAAAAAAAAAAAAAAAAA"]
    };
    for cookie in ["", "id=malformed"].iter().chain(unknown) {
        let answer = site.visitor().get_with("/", "cookie", cookie).await;
        assert_eq!(answer.outcome(), "no_session");
    }
    let counts = site.counts();
    assert_eq!(counts, only_loads(counts.loads));

    let client = site.due().await;
    let answer = client.get("/").await;
    assert_eq!(answer.outcome(), "refreshed");
    let counts = site.counts();
    assert!(counts.loads <= 2 && counts.writes() == 1, "{counts:?}");

    let answer = client.get("/").await;
    assert_eq!(answer.outcome(), "not_due");
    assert!(!answer.set_cookie().is_empty());
}

#[session_refresh(interval = "1h")]
async fn changes(session: Session) -> impl IntoResponse {
    session.insert("cart", 1).await.unwrap();
    [("cache-control", "public")]
}

async fn a_handler_that_changes_the_session_answers_for_its_own_caching<K: Sessions>(sessions: K) {
    let routes = Router::new().route("/changes", get(changes));
    let site = Setup::new(routes).on(sessions).start().await;
    let client = site.due().await;
    let answer = client.get("/changes").await;
    assert_eq!(
        (answer.outcome(), answer.header("cache-control")),
        ("refreshed", "public")
    );
    assert!(site.value(&client, "cart").await.is_some());
}
