//! A policy on a group of routes: `RefreshLayer::policy`.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use axum::{
    Extension, Json, Router,
    body::Body,
    extract::FromRequestParts,
    middleware::{Next, from_fn},
    response::IntoResponse as _,
    routing::{any_service, get, post},
};
use http::{Request, Response, StatusCode, request::Parts};
use session_refresh::{
    LifetimeLayer, Outcome, Policy, RefreshInfo, RefreshLayer, SessionUser, SkipReason,
    session_refresh, testing::AssertRefresh as _,
};
use session_refresh_tests::{Client, CurrentUser, Events, Server, TestClock, login_routes};
use time::Duration;
use tower::{Layer as _, Service, ServiceExt as _, service_fn};
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
    let (server, client, _) = serve_by_clock(routes).await;
    (server, client)
}

/// The same, and the clock.
async fn serve_by_clock(routes: Router) -> (Server, Client, TestClock) {
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
    (server, client, clock)
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
    let (server, client, clock) = serve_by_clock(routes).await;
    assert_eq!(client.get("/a").await.outcome(), "refreshed");
    let root = server.client();
    root.post("/login/superuser").await;
    clock.advance(Duration::DAY);
    assert_eq!(root.get("/a").await.outcome(), "superuser");
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

/// What `/` answers a user who is due, without a connection in between.
async fn a_day_after_login(app: Router, clock: &TestClock) -> Response<Body> {
    let login = Request::post("/login/user").body(Body::empty()).unwrap();
    let login = app.clone().oneshot(login).await.unwrap();
    clock.advance(Duration::DAY);
    let due = Request::get("/").header("cookie", &login.headers()["set-cookie"]);
    app.oneshot(due.body(Body::empty()).unwrap()).await.unwrap()
}

/// The refresh is done while the handler waits, and the handler is waited for all the same.
#[tokio::test(start_paused = true)]
async fn a_handler_that_goes_on_waiting_after_the_refresh_answers() {
    async fn slow() -> &'static str {
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        tokio::task::yield_now().await;
        "done"
    }
    let clock = TestClock::default();
    let sessions = LifetimeLayer::new(MemoryStore::default(), |store| {
        SessionManagerLayer::new(store).with_expiry(Expiry::OnInactivity(Duration::days(14)))
    });
    let app = Router::new()
        .route("/", get(slow))
        .layer(RefreshLayer::new().policy(DAILY).info_in_response())
        .merge(login_routes())
        .layer(sessions.with_clock(clock.as_fn()));
    let answer = a_day_after_login(app, &clock).await;
    let info = answer.extensions().get::<RefreshInfo>().unwrap();
    assert_eq!(info.outcome, Outcome::Refreshed);
    let body = axum::body::to_bytes(answer.into_body(), 100).await.unwrap();
    assert_eq!(body, "done");
}

/// A handler that asks for its `RefreshInfo`, and is not waited for.
#[tokio::test(start_paused = true)]
async fn a_question_that_is_given_up_leaves_the_refresh_to_be_done() {
    /// The first look-up does not end.
    struct Slow;

    impl SessionUser for Slow {}

    impl<S: Sync> FromRequestParts<S> for Slow {
        type Rejection = Infallible;

        async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
            let first: Arc<AtomicBool> = parts.extensions.get().cloned().unwrap();
            if first.swap(false, Ordering::SeqCst) {
                std::future::pending::<()>().await;
            }
            Ok(Self)
        }
    }

    async fn impatient(request: axum::extract::Request, next: Next) -> Response<Body> {
        let limit = std::time::Duration::from_millis(10);
        let answer = tokio::time::timeout(limit, next.run(request)).await;
        answer.unwrap_or_else(|_| StatusCode::REQUEST_TIMEOUT.into_response())
    }

    let clock = TestClock::default();
    let sessions = LifetimeLayer::new(MemoryStore::default(), |store| {
        SessionManagerLayer::new(store).with_expiry(Expiry::OnInactivity(Duration::days(14)))
    });
    let group = RefreshLayer::new().user::<Slow>().policy(DAILY);
    let app = Router::new()
        .route("/", get(tell))
        .layer(from_fn(impatient))
        .layer(group.info_in_response())
        .layer(Extension(Arc::new(AtomicBool::new(true))))
        .merge(login_routes())
        .layer(sessions.with_clock(clock.as_fn()));
    let answer = a_day_after_login(app, &clock).await;
    assert_eq!(answer.status(), StatusCode::REQUEST_TIMEOUT);
    answer.assert_refreshed();
}

/// As tower asks of whoever calls a service: the one that is called has said that it is ready.
#[tokio::test]
async fn a_service_is_called_when_it_is_ready() {
    #[derive(Default)]
    struct Picky {
        is_ready: bool,
    }

    impl Clone for Picky {
        fn clone(&self) -> Self {
            Self::default()
        }
    }

    impl Service<Request<Body>> for Picky {
        type Response = Response<Body>;
        type Error = Infallible;
        type Future = Ready<Result<Response<Body>, Infallible>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            self.is_ready = true;
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, _: Request<Body>) -> Self::Future {
            assert!(std::mem::take(&mut self.is_ready));
            ready(Ok(Response::new(Body::empty())))
        }
    }

    let sessions = LifetimeLayer::new(MemoryStore::default(), |store| {
        SessionManagerLayer::new(store)
    });
    let routes = RefreshLayer::new().layer(Picky::default());
    let group = RefreshLayer::new().policy(DAILY).layer(Picky::default());
    let owned = sessions.layer(Picky::default());
    let request = || Request::new(Body::empty());
    assert_eq!(routes.oneshot(request()).await.unwrap().status(), 200);
    // Without a session's layer around it: misuse, and no call.
    assert_eq!(
        group.clone().oneshot(request()).await.unwrap().status(),
        500
    );
    let grouped = sessions.layer(group);
    assert_eq!(grouped.oneshot(request()).await.unwrap().status(), 200);
    assert_eq!(owned.oneshot(request()).await.unwrap().status(), 200);
}
