//! The cookie that a refresh sends again, and who may keep the response.

use axum::{Router, response::IntoResponse, routing::get};
use http::{HeaderValue, header};
use session_refresh::session_refresh;
use session_refresh_tests::{Setup, Site};
use time::{OffsetDateTime, ext::NumericalDuration as _};
use tower_sessions::{Expiry, Session, SessionStore};

use crate::only_loads;

const KEY: &str = "session_refresh.refreshed_at";

#[session_refresh(interval = "1h", skip_unauthenticated = false)]
async fn page() {}

fn routes() -> Router {
    Router::new().route("/", get(page))
}

on_each_store![
    cookie_and_store_move_together,
    a_session_that_ends_with_the_browser_is_extended_in_the_store,
    always_save_and_a_refresh_get_along,
];

async fn cookie_and_store_move_together<S: SessionStore + Clone>(store: S) {
    let site = Setup::new(routes())
        .store(store)
        .expiry(Expiry::OnInactivity(3.days()))
        .start()
        .await;
    let client = site.login("user").await;
    let soon = OffsetDateTime::now_utc() + 5.minutes();
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

async fn a_session_that_ends_with_the_browser_is_extended_in_the_store<S: SessionStore + Clone>(
    store: S,
) {
    let site = Setup::new(routes())
        .store(store)
        .expiry(Expiry::OnSessionEnd)
        .start()
        .await;
    let client = site.login("user").await;
    let soon = OffsetDateTime::now_utc() + 5.minutes();
    site.edit(&client, |record| record.expiry_date = soon).await;

    let answer = client.get("/").await;
    assert_eq!(answer.outcome(), "refreshed");
    assert!(answer.set_cookie().starts_with("id="));
    assert!(!answer.set_cookie().contains("Max-Age"), "{answer:?}");
    assert!(site.session(&client).await.expiry_date > soon + 13.days());
    assert_eq!(answer.lifetime(), Some(14.days()));
}

async fn always_save_and_a_refresh_get_along<S: SessionStore + Clone>(store: S) {
    let site = Setup::new(routes())
        .store(store)
        .always_save()
        .start()
        .await;
    for cookie in ["", "id=AAAAAAAAAAAAAAAAAAAAAA", "id=malformed"] {
        let answer = site.visitor().get_with("/", "cookie", cookie).await;
        assert_eq!(answer.outcome(), "no_session");
    }
    let counts = site.counts();
    assert_eq!(counts, only_loads(counts.loads));

    let client = site.login("user").await;
    let answer = client.get("/").await;
    assert_eq!(answer.outcome(), "refreshed");
    let counts = site.counts();
    assert!(counts.loads <= 2 && counts.saves == 1, "{counts:?}");
    let stamp = site.value(&client, KEY).await;
    assert!(stamp.is_some());

    let answer = client.get("/").await;
    assert_eq!(answer.outcome(), "not_due");
    assert!(!answer.set_cookie().is_empty());
    assert_eq!(site.value(&client, KEY).await, stamp);
}

/// Answers with these headers, if any, and changes the session if asked to.
async fn answer_with(name: header::HeaderName, values: &str) -> impl IntoResponse + use<> {
    let values = values
        .split('|')
        .filter(|value| !value.is_empty())
        .map(|value| (name.clone(), HeaderValue::from_str(value).unwrap()));
    let mut response = ().into_response();
    response.headers_mut().extend(values);
    response
}

#[session_refresh(interval = "1h")]
async fn cache_control(
    axum::extract::RawQuery(query): axum::extract::RawQuery,
) -> impl IntoResponse {
    let values = query.unwrap_or_default().replace('+', " ");
    answer_with(header::CACHE_CONTROL, &values).await
}

#[session_refresh(interval = "1h")]
async fn expires() -> impl IntoResponse {
    answer_with(header::EXPIRES, "Fri, 01 Jan 2100 00:00:00 GMT").await
}

#[session_refresh(interval = "1h")]
async fn changes(session: Session) -> impl IntoResponse {
    session.insert("cart", 1).await.unwrap();
    answer_with(header::CACHE_CONTROL, "public").await
}

async fn cached_site() -> Site {
    let routes = Router::new()
        .route("/", get(cache_control))
        .route("/expires", get(expires))
        .route("/changes", get(changes));
    Setup::new(routes).start().await
}

#[tokio::test]
async fn a_response_that_others_may_cache_never_carries_the_refreshed_cookie() {
    let site = cached_site().await;
    for path in [
        "/?public",
        "/?max-age=60",
        "/?Public,+Max-Age=60",
        "/?s-maxage=1",
        "/?no-cache|public",
        "/expires",
    ] {
        let client = site.login("user").await;
        let before = site.session(&client).await;
        let answer = client.get(path).await;
        assert_eq!(
            (answer.outcome(), answer.set_cookie()),
            ("shared_cache", ""),
            "{path}"
        );
        assert_eq!(site.counts(), only_loads(1), "{path}");
        assert_eq!(site.session(&client).await, before, "{path}");
    }
}

#[tokio::test]
async fn a_response_that_only_the_browser_may_keep_carries_it() {
    let site = cached_site().await;
    for value in [
        "private",
        "no-store",
        "private,+max-age=60",
        "max-age=60|no-store",
    ] {
        let client = site.login("user").await;
        let answer = client.get(&format!("/?{value}")).await;
        assert_eq!(answer.outcome(), "refreshed", "{value}");
        assert!(!answer.set_cookie().is_empty(), "{value}");
        let kept: Vec<_> = answer.headers.get_all("cache-control").iter().collect();
        let given = value.replace('+', " ");
        assert_eq!(
            kept,
            given.split('|').collect::<Vec<_>>(),
            "the handler's own headers stay"
        );
    }
}

#[tokio::test]
async fn a_refreshed_response_without_a_word_on_caching_becomes_private_and_no_other_does() {
    let site = cached_site().await;
    assert_eq!(site.visitor().get("/").await.header("cache-control"), "");
    let client = site.login("user").await;
    for (outcome, cache_control) in [("refreshed", "private"), ("not_due", "")] {
        let answer = client.get("/").await;
        assert_eq!(
            (answer.outcome(), answer.header("cache-control")),
            (outcome, cache_control)
        );
    }
}

#[tokio::test]
async fn a_handler_that_changes_the_session_answers_for_its_own_caching() {
    let site = cached_site().await;
    let client = site.login("user").await;
    let answer = client.get("/changes").await;
    assert_eq!(
        (answer.outcome(), answer.header("cache-control")),
        ("refreshed", "public")
    );
    assert!(site.value(&client, "cart").await.is_some());
}

/// A cache may store a `no-cache` response, too (RFC 9111 §5.2.2.4), and a cookie with it.
#[tokio::test]
async fn a_response_that_others_may_store_but_not_reuse_unasked_is_made_private_as_well() {
    let site = cached_site().await;
    let client = site.login("user").await;
    let answer = client.get("/?no-cache").await;
    let private = answer
        .headers
        .get_all("cache-control")
        .iter()
        .any(|value| value.to_str().unwrap().contains("private"));
    assert!(private || answer.set_cookie().is_empty(), "{answer:?}");
}
