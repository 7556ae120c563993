//! Stores and user look-ups that fail. A failing store is the one thing here that is not real.

use axum::{
    Router,
    extract::FromRequestParts,
    response::{IntoResponse as _, Redirect, Response},
    routing::get,
};
use http::{StatusCode, request::Parts};
use session_refresh::{RefreshInfo, SessionUser, session_refresh, store::Serialized};
use session_refresh_tests::{Events, FailingStore, Owned, Plain, Setup, Site};
use tower_sessions::{MemoryStore, Session};
use tracing::Level;

use crate::only_loads;

const KEY: &str = "session_refresh.refreshed_at";

#[session_refresh]
async fn page(refresh: RefreshInfo) -> String {
    refresh.outcome.to_string()
}

#[session_refresh]
async fn reading(session: Session) -> Result<String, StatusCode> {
    let role = session.get("role").await;
    role.map(Option::unwrap_or_default)
        .map_err(|_| StatusCode::SERVICE_UNAVAILABLE)
}

#[session_refresh(skip_unauthenticated = false)]
async fn anybody() {}

async fn site() -> (
    Site<Plain<FailingStore<MemoryStore>>>,
    FailingStore<MemoryStore>,
) {
    let store = FailingStore::new(MemoryStore::default());
    let routes = Router::new()
        .route("/", get(page))
        .route("/reading", get(reading))
        .route("/anybody", get(anybody));
    (Setup::new(routes).store(store.clone()).start().await, store)
}

#[tokio::test]
async fn a_session_that_cannot_be_loaded_is_unavailable_and_the_page_is_served() {
    let (site, store) = site().await;
    let client = site.login("user").await;
    let id = client.session_id();

    store.fail_loads_after(0);
    for path in ["/", "/anybody"] {
        let answer = client.get(path).await;
        assert_eq!(
            (answer.status, answer.outcome()),
            (StatusCode::OK, "unavailable")
        );
        assert_eq!(answer.set_cookie(), "", "the client keeps its cookie");
        assert_eq!(site.counts(), only_loads(1));
    }
    assert_eq!(client.get("/").await.text, "unavailable");
    let answer = client.get("/reading").await;
    assert_eq!(
        answer.status,
        StatusCode::SERVICE_UNAVAILABLE,
        "the handler's own answer"
    );
    assert_eq!(answer.set_cookie(), "");
    assert_eq!(
        site.lookups.count(),
        0,
        "nobody is asked for, and nobody taken for a visitor"
    );

    store.mend();
    assert_eq!(client.session_id(), id);
    assert_eq!(client.get("/").await.outcome(), "refreshed");
}

#[tokio::test]
async fn a_store_that_fails_when_the_handler_has_answered_does_not_fail_the_page() {
    let (site, store) = site().await;
    let client = site.login("user").await;
    store.fail_loads_after(1);
    let answer = client.get("/").await;
    assert_eq!(
        (answer.status, answer.text.as_str(), answer.outcome()),
        (StatusCode::OK, "refreshed", "unavailable")
    );
    assert_eq!((answer.set_cookie(), answer.refreshed_at()), ("", None));
    assert_eq!(site.counts(), only_loads(2));

    store.mend();
    assert_eq!(site.value(&client, KEY).await, None);
    assert_eq!(client.get("/").await.outcome(), "refreshed");
}

/// FACTS 2: the session layer's save, after the commit. A store that touches closes this; a plain one can't.
#[tokio::test]
async fn a_save_that_fails_is_the_session_layers_500_and_the_next_request_tries_again() {
    let (site, store) = site().await;
    let client = site.login("user").await;
    store.fail_saves();
    let answer = client.get("/").await;
    assert_eq!(answer.status, StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(answer.set_cookie(), "");
    store.mend();
    assert_eq!(client.get("/").await.outcome(), "refreshed");
}

/// A user whose extractor answers with the status in header `x-user`.
struct Rejected;

impl SessionUser for Rejected {}

impl<S: Sync> FromRequestParts<S> for Rejected {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        let status: u16 = parts.headers["x-user"].to_str().unwrap().parse().unwrap();
        if status == 200 {
            return Ok(Self);
        }
        let status = StatusCode::from_u16(status).unwrap();
        Err(if status.is_redirection() {
            Redirect::to("/login").into_response()
        } else {
            status.into_response()
        })
    }
}

#[tokio::test]
async fn a_look_up_that_fails_is_unavailable_and_one_that_turns_away_is_nobody() {
    #[session_refresh(user = Rejected)]
    async fn named() {}
    #[session_refresh]
    async fn from_layer() {}
    #[session_refresh(user = Rejected, skip_superuser, skip_unauthenticated = false)]
    async fn by_role() {}

    let routes = Router::new()
        .route("/named", get(named))
        .route("/layer", get(from_layer))
        .route("/by_role", get(by_role));
    let site = Setup::new(routes)
        .refresh(session_refresh::RefreshLayer::user::<Rejected>)
        .start()
        .await;
    for (status, outcome, by_role) in [
        ("500", "unavailable", "unavailable"),
        ("503", "unavailable", "unavailable"),
        ("401", "unauthenticated", "refreshed"),
        ("403", "unauthenticated", "refreshed"),
        ("303", "unauthenticated", "refreshed"),
        ("200", "refreshed", "refreshed"),
    ] {
        for (path, outcome) in [
            ("/named", outcome),
            ("/layer", outcome),
            ("/by_role", by_role),
        ] {
            let client = site.login("user").await;
            let answer = client.get_with(path, "x-user", status).await;
            assert_eq!(
                (answer.status, answer.outcome()),
                (StatusCode::OK, outcome),
                "{path} {status}"
            );
            assert_eq!(
                site.value(&client, KEY).await.is_some(),
                outcome == "refreshed"
            );
            assert_eq!(answer.set_cookie().is_empty(), outcome != "refreshed");
        }
    }
}

#[tokio::test]
async fn the_operator_hears_of_a_look_up_that_fails() {
    #[session_refresh(user = Rejected)]
    async fn named() {}

    let site = Setup::new(Router::new().route("/", get(named)))
        .start()
        .await;
    let client = site.login("user").await;
    for (status, failures) in [("503", 1), ("401", 0)] {
        let events = Events::record();
        client.get_with("/", "x-user", status).await;
        let failed: Vec<_> = (events.ours().into_iter())
            .filter(|event| event.level == Level::ERROR)
            .collect();
        assert_eq!(failed.len(), failures, "{failed:?}");
        assert!(failed.iter().all(|event| event.text.contains(status)));
    }
}

/// Of each touch that fails, and then that none is tried for a while.
#[tokio::test]
async fn the_operator_hears_of_touches_that_fail_and_of_their_pause() {
    let store = FailingStore::new(MemoryStore::default());
    let site = Setup::new(Router::new().route("/", get(page)))
        .on(Owned(Serialized::new(store.clone())))
        .start()
        .await;
    let clients = [site.due().await, site.due().await, site.due().await];
    store.fail_saves();
    let events = Events::record();
    for client in &clients {
        assert_eq!(client.get("/").await.outcome(), "unavailable");
    }
    let told: Vec<_> = (events.ours().into_iter())
        .filter(|event| event.level <= Level::WARN)
        .map(|event| event.text)
        .collect();
    let [failures @ .., pause] = told.as_slice() else {
        panic!("nothing is told");
    };
    assert_eq!(failures.len(), clients.len(), "{told:?}");
    for (index, failure) in failures.iter().enumerate() {
        assert!(failure.starts_with("could not touch the session"));
        let so_far = format!("failed_touches={}", index + 1);
        assert!(failure.contains(&so_far), "{failure}");
    }
    assert_eq!(pause, "touches keep failing: pausing pause=\"1s\"");
}
