//! A policy on a group of routes: `RefreshLayer::policy`.

use std::convert::Infallible;

use axum::{
    Json, Router,
    body::Body,
    extract::FromRequestParts,
    routing::{any_service, get, post},
};
use http::{Request, Response};
use session_refresh::{
    LifetimeLayer, Outcome, Policy, RefreshInfo, RefreshLayer, SessionUser, SkipReason,
    session_refresh,
};
use session_refresh_tests::{Client, CurrentUser, Events, Server, TestClock, login_routes};
use time::Duration;
use tower::{Layer as _, ServiceExt as _, service_fn};
use tower_sessions::{Expiry, MemoryStore, Session, SessionManagerLayer};

const DAILY: Policy = Policy::every(Duration::DAY);

async fn tell(refresh: RefreshInfo) -> String {
    refresh.outcome.to_string()
}

/// The same as a plain tower service.
pub(crate) async fn tell_as_service(request: Request<Body>) -> Result<Response<Body>, Infallible> {
    let (mut parts, _) = request.into_parts();
    let refresh = RefreshInfo::from_request_parts(&mut parts, &()).await;
    let outcome = refresh.unwrap().outcome;
    Ok(Response::new(Body::from(outcome.to_string())))
}

/// Serves the routes on a store that touches; answers a user a day after the login, too.
async fn serve(routes: Router) -> (Server, Client) {
    let clock = TestClock::default();
    let sessions = LifetimeLayer::new(MemoryStore::default(), |store| {
        SessionManagerLayer::new(store)
            .with_secure(false)
            .with_expiry(Expiry::OnInactivity(Duration::days(14)))
    });
    let sessions = sessions.with_clock(clock.as_fn());
    let server = Server::start(routes.merge(login_routes()).layer(sessions)).await;
    let client = server.client();
    client.post("/login/user").await;
    clock.advance(Duration::DAY);
    (server, client)
}

#[tokio::test]
async fn a_policy_on_a_router_refreshes_as_the_attribute_does() {
    let routes = Router::new()
        .route("/a", get(tell))
        .route("/b", get(tell))
        .layer(RefreshLayer::new().policy(DAILY));
    let (server, client) = serve(routes).await;
    let answer = client.get("/a").await;
    assert_eq!(
        (answer.text.as_str(), answer.outcome()),
        ("refreshed", "refreshed")
    );
    assert!(answer.set_cookie().contains("Max-Age=1209600"));
    let answer = client.get("/b").await;
    assert_eq!(
        (answer.text.as_str(), answer.outcome(), answer.set_cookie()),
        ("not_due", "not_due", "")
    );
    assert_eq!(server.client().get("/a").await.outcome(), "no_session");
}

#[tokio::test]
async fn a_policy_on_a_nested_router_and_on_a_method_keeps_to_them() {
    let nested = Router::new()
        .route("/a", get(tell))
        .route("/static/a", get(tell))
        .layer(RefreshLayer::new().policy(DAILY.skip_paths(&["/nested/static/"])));
    let routes = Router::new()
        .route(
            "/method",
            get(tell)
                .layer(RefreshLayer::new().policy(DAILY))
                .post(async || "outside"),
        )
        .nest("/nested", nested);
    let (_server, client) = serve(routes).await;
    assert_eq!(client.get("/nested/static/a").await.outcome(), "path");
    assert_eq!(client.post("/method").await.outcome(), "");
    assert_eq!(client.get("/method").await.outcome(), "refreshed");
    assert_eq!(client.get("/nested/a").await.outcome(), "not_due");
}

#[tokio::test]
async fn of_policies_around_a_route_the_innermost_alone_decides() {
    const NEVER: Policy = DAILY.skip_if(|_| true);

    #[session_refresh(interval = "24h")]
    async fn attribute(refresh: RefreshInfo) -> String {
        refresh.outcome.to_string()
    }

    #[session_refresh(policy = NEVER)]
    async fn never(refresh: RefreshInfo, Json(()): Json<()>) -> String {
        refresh.outcome.to_string()
    }

    let inner = Router::new()
        .route("/inner", get(tell))
        .layer(RefreshLayer::new().policy(NEVER));
    let routes = Router::new()
        .route("/never", post(never))
        .merge(inner)
        .layer(RefreshLayer::new().policy(DAILY))
        .merge(
            Router::new()
                .route("/attribute", get(attribute))
                .layer(RefreshLayer::new().policy(NEVER)),
        );
    let (_server, client) = serve(routes).await;
    let answer = client.get("/inner").await;
    assert_eq!(
        (answer.text.as_str(), answer.outcome()),
        ("predicate", "predicate")
    );
    // The attribute has decided, though its handler was never reached.
    let answer = client.post_body("/never", "no json").await;
    assert!(answer.status.is_client_error());
    assert_eq!(answer.set_cookie(), "");
    let answer = client.get("/attribute").await;
    assert_eq!(
        (answer.text.as_str(), answer.outcome()),
        ("refreshed", "refreshed")
    );
}

/// The user is asked for to answer with the outcome, so the outcome can't be had to find the user.
#[tokio::test]
async fn a_user_who_asks_for_the_outcome_of_a_group_is_not_found_and_waits_for_nothing() {
    struct Circular;
    impl SessionUser for Circular {}
    impl<S: Send + Sync> FromRequestParts<S> for Circular {
        type Rejection = axum::response::Response;
        async fn from_request_parts(
            parts: &mut http::request::Parts,
            state: &S,
        ) -> Result<Self, Self::Rejection> {
            RefreshInfo::from_request_parts(parts, state).await?;
            Ok(Self)
        }
    }
    let layer = RefreshLayer::new().user::<Circular>().policy(DAILY);
    let routes = Router::new().route("/a", get(tell)).layer(layer);
    let (_server, client) = serve(routes).await;
    assert_eq!(client.get("/a").await.outcome(), "unavailable");
}

#[tokio::test]
async fn a_policy_asks_its_own_layers_user_source() {
    let layer = RefreshLayer::new()
        .user::<CurrentUser>()
        .policy(DAILY.skip_superuser(true));
    let routes = Router::new().route("/a", get(tell)).layer(layer);
    let (server, client) = serve(routes).await;
    assert_eq!(client.get("/a").await.outcome(), "refreshed");
    let root = server.client();
    root.post("/login/superuser").await;
    assert_eq!(root.get("/a").await.outcome(), "not_due");
}

#[tokio::test]
async fn a_policy_that_cannot_be_answered_is_refused_at_once() {
    let events = Events::record();
    let routes = Router::new()
        .route("/a", get(tell))
        .layer(RefreshLayer::new().policy(DAILY.skip_staff(true)));
    let (server, _client) = serve(routes).await;
    let answer = server.client().get("/a").await;
    assert_eq!(answer.status, 500);
    assert!(answer.text.contains("`.user::<T>()`"), "{}", answer.text);
    assert!(
        events
            .ours()
            .iter()
            .any(|event| event.level == tracing::Level::ERROR)
    );
}

#[tokio::test]
async fn a_policy_works_on_plain_tower_services() {
    // Routed by axum …
    let service = service_fn(tell_as_service);
    let routes = Router::new().route(
        "/a",
        any_service(RefreshLayer::new().policy(DAILY).layer(service)),
    );
    let (_server, client) = serve(routes).await;
    let answer = client.get("/a").await;
    assert_eq!(
        (answer.text.as_str(), answer.outcome()),
        ("refreshed", "refreshed")
    );

    // … or without axum, with bodies of their own.
    let service =
        service_fn(async |_: Request<()>| Ok::<_, Infallible>(Response::new(String::new())));
    let layer = RefreshLayer::new().info_in_response();
    let service = layer.policy(DAILY).layer(service);
    let response = service.clone().oneshot(Request::new(())).await.unwrap();
    assert_eq!(response.status(), 500);
    assert!(response.body().contains("SessionManagerLayer"));
    let mut request = Request::new(());
    let store = std::sync::Arc::new(MemoryStore::default());
    request
        .extensions_mut()
        .insert(Session::new(None, store, None));
    let response = service.oneshot(request).await.unwrap();
    let info = response.extensions().get::<RefreshInfo>().unwrap();
    assert_eq!(info.outcome, Outcome::Skipped(SkipReason::NoSession));
}
