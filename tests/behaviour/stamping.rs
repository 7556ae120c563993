//! With tower-sessions' layer alone: what the handler, or another request meanwhile, may do to the session, and what the
//! refresh makes of it.

use axum::{Extension, Json, Router, routing::get};
use http::StatusCode;
use serde_json::json;
use session_refresh::{RefreshInfo, session_refresh};
use session_refresh_tests::{Counts, Gate, Sessions, Setup, Site};
use time::{OffsetDateTime, ext::NumericalDuration as _};
use tower_sessions::{Expiry, Session, session::Id};

use crate::only_loads;

const KEY: &str = "session_refresh.refreshed_at";

on_plain_stores![
    a_4xx_of_the_handler_counts,
    a_request_that_the_first_extractor_rejects_counts,
    nothing_is_written_on_a_5xx,
    a_change_by_the_handler_takes_the_refresh_along,
    a_logout_in_the_handler_stays_a_logout,
    an_insert_after_a_flush_is_the_handlers_own_session,
    a_new_id_is_the_handlers_own_session,
    a_cleared_session_stays_cleared,
    a_logout_elsewhere_meanwhile_stays_a_logout,
    a_logout_elsewhere_makes_no_ghost_when_the_handler_loads_afresh,
    a_change_elsewhere_meanwhile_is_kept,
    a_change_elsewhere_is_kept_when_the_handler_loads_afresh,
    a_refresh_elsewhere_meanwhile_is_enough,
];

async fn site<K: Sessions>(sessions: K, routes: Router) -> Site<K> {
    Setup::new(routes).on(sessions).start().await
}

/// The session is not in the store, and nothing was written that could have made it or another one.
async fn assert_logged_out<K: Sessions>(site: &Site<K>, id: Id) {
    assert_eq!(site.record(id).await, None, "the session is back");
    let counts = site.counts();
    assert_eq!((counts.creates, counts.saves), (0, 0), "{counts:?}");
}

async fn a_4xx_of_the_handler_counts<K: Sessions>(sessions: K) {
    #[session_refresh]
    async fn missing() -> StatusCode {
        StatusCode::NOT_FOUND
    }
    let site = site(sessions, Router::new().route("/", get(missing))).await;
    let client = site.login("user").await;
    let answer = client.get("/").await;
    assert_eq!(
        (answer.status, answer.outcome()),
        (StatusCode::NOT_FOUND, "refreshed")
    );
    assert!(site.value(&client, KEY).await.is_some());
}

async fn a_request_that_the_first_extractor_rejects_counts<K: Sessions>(sessions: K) {
    #[session_refresh]
    async fn needs_json(_: Json<u8>) {}
    let site = site(sessions, Router::new().route("/", get(needs_json))).await;
    let client = site.login("user").await;
    let answer = client.get("/").await;
    assert_eq!(
        (answer.status, answer.outcome()),
        (StatusCode::UNSUPPORTED_MEDIA_TYPE, "refreshed")
    );
    assert!(site.value(&client, KEY).await.is_some());
}

async fn nothing_is_written_on_a_5xx<K: Sessions>(sessions: K) {
    #[session_refresh]
    async fn broken() -> StatusCode {
        StatusCode::BAD_GATEWAY
    }
    #[session_refresh]
    async fn broken_after_a_change(session: Session) -> StatusCode {
        session.insert("cart", ["a book"]).await.unwrap();
        StatusCode::INTERNAL_SERVER_ERROR
    }
    let routes = Router::new()
        .route("/broken", get(broken))
        .route("/changed", get(broken_after_a_change));
    let site = site(sessions, routes).await;
    let client = site.login("user").await;
    let before = site.session(&client).await;
    for path in ["/broken", "/changed"] {
        let answer = client.get(path).await;
        assert!(answer.status.is_server_error());
        assert_eq!(
            (answer.outcome(), answer.set_cookie(), answer.refreshed_at()),
            ("server_error", "", None)
        );
        assert_eq!(site.counts(), only_loads(1), "{path}");
        assert_eq!(site.session(&client).await, before, "{path}");
    }
}

async fn a_change_by_the_handler_takes_the_refresh_along<K: Sessions>(sessions: K) {
    #[session_refresh]
    async fn add(session: Session, refresh: RefreshInfo) -> String {
        session.insert("cart", ["a book"]).await.unwrap();
        refresh.outcome.to_string()
    }
    let site = site(sessions, Router::new().route("/", get(add))).await;
    let client = site.login("user").await;
    let answer = client.get("/").await;
    assert_eq!(
        (answer.outcome(), answer.text.as_str()),
        ("refreshed", "refreshed")
    );
    assert_eq!(
        site.counts(),
        Counts {
            saves: 1,
            ..only_loads(1)
        }
    );
    assert_eq!(site.value(&client, "cart").await, Some(json!(["a book"])));
    assert!(site.value(&client, KEY).await.is_some());
}

async fn a_logout_in_the_handler_stays_a_logout<K: Sessions>(sessions: K) {
    #[session_refresh]
    async fn logout(session: Session) {
        session.flush().await.unwrap();
    }
    let site = site(sessions, Router::new().route("/", get(logout))).await;
    let client = site.login("user").await;
    let id = client.session_id().unwrap();
    let answer = client.get("/").await;
    assert_eq!((answer.status, answer.outcome()), (StatusCode::OK, "gone"));
    assert!(answer.removes_cookie(), "{answer:?}");
    assert_eq!(client.session_id(), None);
    assert_logged_out(&site, id).await;
}

async fn an_insert_after_a_flush_is_the_handlers_own_session<K: Sessions>(sessions: K) {
    #[session_refresh]
    async fn start_over(session: Session) {
        session.flush().await.unwrap();
        session.insert("greeting", "bye").await.unwrap();
    }
    let site = site(sessions, Router::new().route("/", get(start_over))).await;
    let client = site.login("user").await;
    assert_eq!(client.get("/").await.outcome(), "gone");
    let record = site.session(&client).await;
    assert_eq!(record.data, [("greeting".to_owned(), json!("bye"))].into());
    let counts = site.counts();
    assert_eq!((counts.creates, counts.saves), (1, 0), "{counts:?}");
}

async fn a_new_id_is_the_handlers_own_session<K: Sessions>(sessions: K) {
    #[session_refresh]
    async fn rotate(session: Session) {
        session.cycle_id().await.unwrap();
    }
    let site = site(sessions, Router::new().route("/", get(rotate))).await;
    let client = site.login("user").await;
    let old = client.session_id().unwrap();
    assert_eq!(client.get("/").await.outcome(), "gone");
    assert_ne!(client.session_id(), Some(old));
    assert_eq!(site.record(old).await, None);
    assert_eq!(site.value(&client, "role").await, Some(json!("user")));
    let counts = site.counts();
    assert_eq!((counts.creates, counts.saves), (1, 0), "{counts:?}");
}

async fn a_cleared_session_stays_cleared<K: Sessions>(sessions: K) {
    #[session_refresh]
    async fn clear(session: Session) {
        session.clear().await;
    }
    #[session_refresh]
    async fn page() {}
    let routes = Router::new()
        .route("/clear", get(clear))
        .route("/page", get(page));
    let site = site(sessions, routes).await;
    let client = site.login("user").await;
    // Never refreshed before: a stamp may be all that is left.
    client.get("/clear").await;
    let left = site.session(&client).await.data;
    assert!(left.keys().all(|key| key == KEY), "{left:?}");

    let client = site.login("user").await;
    client.get("/page").await;
    site.clock.advance(24.hours());
    let answer = client.get("/clear").await;
    assert_eq!(answer.outcome(), "gone");
    assert!(site.session(&client).await.data.is_empty());
}

#[session_refresh(interval = "1h")]
async fn slow(Extension(gate): Extension<Gate>) {
    gate.pass().await;
}

/// Waits, and then reads what is in the store now.
#[session_refresh(interval = "1h")]
async fn slow_and_loads(Extension(gate): Extension<Gate>, session: Session) {
    gate.pass().await;
    session.load().await.unwrap();
}

async fn add(session: Session) {
    session.insert("cart", ["a book"]).await.unwrap();
}

fn slow_routes() -> Router {
    Router::new()
        .route("/slow", get(slow))
        .route("/loads", get(slow_and_loads))
        .route("/add", get(add))
}

async fn logout_elsewhere<K: Sessions>(sessions: K, path: &str) {
    let site = site(sessions, slow_routes()).await;
    let client = site.login("user").await;
    let id = client.session_id().unwrap();
    let answer = site
        .during(&client, path, async {
            client.post("/logout").await;
        })
        .await;
    assert_eq!((answer.status, answer.outcome()), (StatusCode::OK, "gone"));
    assert_eq!((answer.refreshed_at(), answer.expires_at()), (None, None));
    assert_logged_out(&site, id).await;
}

async fn a_logout_elsewhere_meanwhile_stays_a_logout<K: Sessions>(sessions: K) {
    logout_elsewhere(sessions, "/slow").await;
}

async fn a_logout_elsewhere_makes_no_ghost_when_the_handler_loads_afresh<K: Sessions>(sessions: K) {
    logout_elsewhere(sessions, "/loads").await;
}

async fn change_elsewhere<K: Sessions>(sessions: K, path: &str) {
    let site = site(sessions, slow_routes()).await;
    let client = site.login("user").await;
    let answer = site
        .during(&client, path, async {
            client.get("/add").await;
        })
        .await;
    assert_eq!(answer.outcome(), "refreshed");
    assert_eq!(site.value(&client, "cart").await, Some(json!(["a book"])));
    assert!(site.value(&client, KEY).await.is_some());
}

async fn a_change_elsewhere_meanwhile_is_kept<K: Sessions>(sessions: K) {
    change_elsewhere(sessions, "/slow").await;
}

async fn a_change_elsewhere_is_kept_when_the_handler_loads_afresh<K: Sessions>(sessions: K) {
    change_elsewhere(sessions, "/loads").await;
}

async fn a_refresh_elsewhere_meanwhile_is_enough<K: Sessions>(sessions: K) {
    #[session_refresh(interval = "1h")]
    async fn quick() {}
    let site = site(sessions, slow_routes().route("/quick", get(quick))).await;
    let client = site.login("user").await;
    let answer = site
        .during(&client, "/slow", async {
            assert_eq!(client.get("/quick").await.outcome(), "refreshed");
        })
        .await;
    assert_eq!((answer.outcome(), answer.set_cookie()), ("not_due", ""));
    assert_eq!(site.counts().saves, 1);
}

#[tokio::test]
async fn after_a_refresh_elsewhere_the_end_told_is_the_one_of_that_refresh() {
    #[session_refresh(interval = "1h")]
    async fn quick() {}
    let site = Setup::new(slow_routes().route("/quick", get(quick)))
        .expiry(Expiry::OnInactivity(2.hours()))
        .start()
        .await;
    let client = site.login("user").await;
    let mut end = None;
    let answer = site
        .during(&client, "/slow", async {
            end = client.get("/quick").await.expires_at();
            site.clock.advance(30.minutes());
        })
        .await;
    let (told, end) = (answer.expires_at().unwrap(), end.unwrap());
    assert_eq!(answer.outcome(), "not_due");
    assert!(told <= end, "told {told}, but the session ends {end}");
}

#[tokio::test]
async fn the_end_told_is_the_last_refresh_plus_the_sessions_lifetime() {
    #[session_refresh(interval = "1h")]
    async fn page() {}
    let site = Setup::new(Router::new().route("/", get(page)))
        .expiry(Expiry::OnInactivity(3.hours()))
        .start()
        .await;
    let client = site.login("user").await;
    for outcome in ["refreshed", "not_due"] {
        let answer = client.get("/").await;
        assert_eq!(answer.outcome(), outcome);
        assert_eq!(answer.lifetime(), Some(3.hours()));
        site.clock.advance(59.minutes());
    }
}

#[tokio::test]
async fn an_expiry_that_the_handler_sets_is_the_one_told() {
    #[session_refresh]
    async fn remember_me(session: Session) {
        session.set_expiry(Some(Expiry::OnInactivity(30.days())));
    }
    #[session_refresh]
    async fn fixed(session: Session) {
        session.set_expiry(Some(Expiry::AtDateTime(
            OffsetDateTime::now_utc() + 1.hours(),
        )));
    }
    let routes = Router::new()
        .route("/remember_me", get(remember_me))
        .route("/fixed", get(fixed));
    let site = Setup::new(routes).start().await;

    let client = site.login("user").await;
    let answer = client.get("/remember_me").await;
    assert_eq!(answer.outcome(), "refreshed");
    assert_eq!(answer.lifetime(), Some(30.days()));

    let client = site.login("user").await;
    let answer = client.get("/fixed").await;
    assert_eq!(answer.outcome(), "fixed_expiry");
    assert_eq!(
        answer.expires_at(),
        Some(crate::whole_millis(site.session(&client).await.expiry_date))
    );
    assert_eq!(site.value(&client, KEY).await, None);
}
