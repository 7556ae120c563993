//! `RefreshLayer`: who the user is, what a route leaves unsaid, and the clock.

use axum::{
    Router,
    extract::{FromRef, FromRequestParts, State},
    routing::get,
};
use http::{StatusCode, request::Parts};
use session_refresh::{
    LifetimeLayer, Policy, RefreshConfig, RefreshInfo, RefreshLayer, SessionUser, session_refresh,
};
use session_refresh_tests::{CurrentUser, Server, Setup, TestClock, login_routes};
use time::{Duration, ext::NumericalDuration as _};
use tower_sessions::{MemoryStore, Session, SessionManagerLayer};

#[session_refresh]
async fn page() {}

#[session_refresh(skip_superuser)]
async fn skips_superuser() {}

fn sessions() -> SessionManagerLayer<MemoryStore> {
    SessionManagerLayer::new(MemoryStore::default()).with_secure(false)
}

/// What the first request of somebody in this role comes to.
async fn first_outcome(server: &Server, role: &str, path: &str) -> String {
    let client = server.client();
    client.post(&format!("/login/{role}")).await;
    client.get(path).await.outcome().to_owned()
}

/// A superuser is whoever has the role that the application's state names.
#[derive(Clone)]
struct AppState {
    root: &'static str,
}

struct StatefulUser {
    is_root: bool,
}

impl SessionUser for StatefulUser {
    fn is_superuser(&self) -> bool {
        self.is_root
    }
}

impl<S> FromRequestParts<S> for StatefulUser
where
    AppState: FromRef<S>,
    S: Send + Sync,
{
    type Rejection = StatusCode;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, StatusCode> {
        let CurrentUser { role } = CurrentUser::from_request_parts(parts, state).await?;
        let AppState { root } = AppState::from_ref(state);
        Ok(Self {
            is_root: role == root,
        })
    }
}

#[tokio::test]
async fn the_user_comes_from_an_extractor_without_state() {
    let app = Router::new()
        .route("/", get(skips_superuser))
        .merge(login_routes())
        .layer(RefreshLayer::new().user::<CurrentUser>())
        .layer(sessions());
    let server = Server::start(app).await;
    assert_eq!(first_outcome(&server, "user", "/").await, "refreshed");
    assert_eq!(first_outcome(&server, "superuser", "/").await, "superuser");
}

#[tokio::test]
async fn the_user_comes_from_an_extractor_with_state() {
    let state = AppState { root: "boss" };
    let app = Router::new()
        .route("/", get(skips_superuser))
        .merge(login_routes())
        .layer(RefreshLayer::new().user_with_state::<StatefulUser, _>(state))
        .layer(sessions());
    let server = Server::start(app).await;
    assert_eq!(first_outcome(&server, "superuser", "/").await, "refreshed");
    assert_eq!(first_outcome(&server, "boss", "/").await, "superuser");
}

#[tokio::test]
async fn a_routes_own_user_is_extracted_with_its_routers_state_and_wins_over_the_layers() {
    #[session_refresh(user = StatefulUser, skip_superuser)]
    async fn own(State(_): State<AppState>) {}

    let stateful = Router::new()
        .route("/own", get(own))
        .with_state(AppState { root: "boss" });
    let site = Setup::new(
        Router::new()
            .route("/", get(skips_superuser))
            .nest("/in", stateful),
    )
    .start()
    .await;
    for (role, layers, own) in [
        ("superuser", "superuser", "refreshed"),
        ("boss", "refreshed", "superuser"),
    ] {
        assert_eq!(site.login(role).await.get("/").await.outcome(), layers);
        assert_eq!(site.login(role).await.get("/in/own").await.outcome(), own);
    }
}

#[tokio::test]
async fn an_optional_user_that_is_none_is_nobody() {
    struct Maybe(Option<CurrentUser>);
    impl SessionUser for Maybe {
        fn is_authenticated(&self) -> bool {
            self.0.is_authenticated()
        }
    }
    impl<S: Send + Sync> FromRequestParts<S> for Maybe {
        type Rejection = std::convert::Infallible;
        async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Self::Rejection> {
            Ok(Self(
                CurrentUser::from_request_parts(parts, state).await.ok(),
            ))
        }
    }
    let routes = Router::new().route("/", get(page)).route(
        "/cart",
        get(async |session: Session| session.insert("cart", 1).await.unwrap()),
    );
    let site = Setup::new(routes)
        .refresh(RefreshLayer::user::<Maybe>)
        .start()
        .await;
    let client = site.visitor();
    client.get("/cart").await;
    assert_eq!(client.get("/").await.outcome(), "unauthenticated");
    client.post("/login/user").await;
    assert_eq!(client.get("/").await.outcome(), "refreshed");
}

#[tokio::test]
async fn without_a_user_source_only_a_missing_session_is_anonymous() {
    let routes = Router::new().route("/", get(page)).route(
        "/cart",
        get(async |session: Session| session.insert("cart", 1).await.unwrap()),
    );
    let site = Setup::new(routes).without_user_source().start().await;
    let client = site.visitor();
    assert_eq!(client.get("/").await.outcome(), "no_session");
    client.get("/cart").await;
    assert_eq!(client.get("/").await.outcome(), "refreshed");
    assert_eq!(site.lookups.count(), 0);
}

const DEFAULTS: Policy = Policy::every(Duration::hours(2))
    .skip_staff(true)
    .skip_paths(&["/skipped"])
    .key("defaults");

#[session_refresh(
    interval = "1h",
    skip_staff = false,
    skip_paths("/elsewhere"),
    key = "route"
)]
async fn says_all() {}

#[session_refresh(interval = "1h")]
async fn says_the_interval() {}

#[tokio::test]
async fn defaults_are_for_what_a_route_leaves_unsaid_and_the_route_wins() {
    let routes = Router::new()
        .route("/silent", get(page))
        .route("/skipped/silent", get(page))
        .route("/interval", get(says_the_interval))
        .route("/skipped/interval", get(says_the_interval))
        .route("/all", get(says_all))
        .route("/skipped/all", get(says_all));
    let site = Setup::new(routes)
        .refresh(|layer| layer.defaults(DEFAULTS))
        .start()
        .await;
    for (route, hours, key, staff, skipped) in [
        ("silent", 2, "defaults", "staff", "path"),
        ("interval", 1, "defaults", "staff", "path"),
        ("all", 1, "route", "refreshed", "refreshed"),
    ] {
        let path = format!("/{route}");
        let client = site.login("user").await;
        assert_eq!(client.get(&path).await.outcome(), "refreshed");
        assert!(site.value(&client, key).await.is_some(), "{route}");
        site.clock.advance(hours.hours() - 1.seconds());
        assert_eq!(client.get(&path).await.outcome(), "not_due");
        site.clock.advance(1.seconds());
        assert_eq!(client.get(&path).await.outcome(), "refreshed");

        assert_eq!(site.login("staff").await.get(&path).await.outcome(), staff);
        let path = format!("/skipped/{route}");
        assert_eq!(site.login("user").await.get(&path).await.outcome(), skipped);
    }
}

#[tokio::test]
async fn an_operators_configuration_wins_over_the_defaults_in_code_and_a_route_over_both() {
    let config = || -> RefreshConfig {
        let config = serde_json::json!({ "interval": "3h", "skip_paths": ["/closed"] });
        serde_json::from_value(config).unwrap()
    };
    for configured_first in [true, false] {
        let routes = Router::new()
            .route("/", get(page))
            .route("/closed", get(page))
            .route("/interval", get(says_the_interval));
        let site = Setup::new(routes)
            .refresh(|layer| {
                if configured_first {
                    layer.config(config()).defaults(DEFAULTS)
                } else {
                    layer.defaults(DEFAULTS).config(config())
                }
            })
            .start()
            .await;
        for (path, hours) in [("/", 3), ("/interval", 1)] {
            let client = site.login("user").await;
            assert_eq!(client.get(path).await.outcome(), "refreshed");
            // What the operator leaves unsaid, the code says.
            assert!(site.value(&client, "defaults").await.is_some());
            site.clock.advance(hours.hours() - 1.seconds());
            assert_eq!(client.get(path).await.outcome(), "not_due", "{path}");
            site.clock.advance(1.seconds());
            assert_eq!(client.get(path).await.outcome(), "refreshed", "{path}");
        }
        let client = site.login("user").await;
        assert_eq!(client.get("/closed").await.outcome(), "path");
    }
}

#[tokio::test]
async fn a_named_policy_is_the_route_and_its_other_options_win() {
    #[session_refresh(policy = DEFAULTS)]
    async fn named() {}
    #[session_refresh(policy = DEFAULTS, interval = "1h", skip_staff = false)]
    async fn overridden() {}

    let routes = Router::new()
        .route("/named", get(named))
        .route("/overridden", get(overridden));
    let site = Setup::new(routes)
        .refresh(|layer| layer.defaults(Policy::every(5.hours()).key("layer")))
        .start()
        .await;
    for (path, hours, staff) in [("/named", 2, "staff"), ("/overridden", 1, "refreshed")] {
        let client = site.login("user").await;
        client.get(path).await;
        assert!(site.value(&client, "defaults").await.is_some(), "{path}");
        site.clock.advance(hours.hours() - 1.seconds());
        assert_eq!(client.get(path).await.outcome(), "not_due", "{path}");
        site.clock.advance(1.seconds());
        assert_eq!(client.get(path).await.outcome(), "refreshed", "{path}");
        assert_eq!(site.login("staff").await.get(path).await.outcome(), staff);
    }
}

#[tokio::test]
async fn of_two_layers_the_inner_one_is_heard_first_and_the_outer_one_on_the_rest() {
    struct Nobody;
    impl SessionUser for Nobody {
        fn is_authenticated(&self) -> bool {
            false
        }
    }
    impl<S: Sync> FromRequestParts<S> for Nobody {
        type Rejection = std::convert::Infallible;
        async fn from_request_parts(_: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
            Ok(Self)
        }
    }

    let clock = TestClock::default();
    let inner = RefreshLayer::new().defaults(Policy::every(1.hours()));
    let app = Router::new()
        .route("/inner", get(page).layer(inner))
        .route("/outer", get(page))
        .route(
            "/nobody",
            get(page).layer(RefreshLayer::new().user::<Nobody>()),
        )
        .merge(login_routes())
        .layer(
            RefreshLayer::new()
                .user::<CurrentUser>()
                .defaults(Policy::every(3.hours()).skip_superuser(true))
                .clock(clock.as_fn()),
        )
        .layer(sessions());
    let server = Server::start(app).await;
    for (path, hours) in [("/inner", 1), ("/outer", 3)] {
        let client = server.client();
        client.post("/login/user").await;
        assert_eq!(client.get(path).await.outcome(), "refreshed");
        clock.advance(hours.hours() - 1.seconds());
        assert_eq!(client.get(path).await.outcome(), "not_due", "{path}");
        clock.advance(1.seconds());
        assert_eq!(client.get(path).await.outcome(), "refreshed", "{path}");
        assert_eq!(first_outcome(&server, "superuser", path).await, "superuser");
    }
    assert_eq!(
        first_outcome(&server, "user", "/nobody").await,
        "unauthenticated"
    );
}

#[tokio::test]
async fn the_layer_may_be_inside_or_outside_of_a_lifetime_layer() {
    for is_outside in [true, false] {
        let clock = TestClock::default();
        let refresh = RefreshLayer::new()
            .user::<CurrentUser>()
            .defaults(Policy::every(2.hours()).skip_superuser(true));
        let sessions = LifetimeLayer::new(MemoryStore::default(), |store| {
            SessionManagerLayer::new(store).with_secure(false)
        })
        .with_clock(clock.as_fn());
        let routes = Router::new().route("/", get(page)).merge(login_routes());
        let app = if is_outside {
            routes.layer(sessions).layer(refresh)
        } else {
            routes.layer(refresh).layer(sessions)
        };
        let server = Server::start(app).await;
        for (role, outcome) in [("user", "refreshed"), ("superuser", "superuser")] {
            let client = server.client();
            client.post(&format!("/login/{role}")).await;
            clock.advance(119.minutes());
            assert_eq!(client.get("/").await.outcome(), "not_due");
            clock.advance(1.minutes());
            assert_eq!(client.get("/").await.outcome(), outcome);
        }
    }
}

#[tokio::test]
async fn the_layer_works_on_a_group_of_routes_and_leaves_the_others_alone() {
    let group = Router::new()
        .route("/in", get(page))
        .layer(RefreshLayer::new().defaults(Policy::new().skip_paths(&["/"])));
    let app = Router::new()
        .merge(group)
        .route("/out", get(page))
        .merge(login_routes())
        .layer(sessions());
    let server = Server::start(app).await;
    assert_eq!(first_outcome(&server, "user", "/in").await, "path");
    assert_eq!(first_outcome(&server, "user", "/out").await, "refreshed");
}

#[tokio::test]
async fn the_clock_is_the_one_of_the_decision_and_of_the_times_told() {
    #[session_refresh]
    async fn told(refresh: RefreshInfo) -> String {
        refresh
            .refreshed_at
            .unwrap()
            .unix_timestamp_nanos()
            .to_string()
    }
    let site = Setup::new(Router::new().route("/", get(told)))
        .start()
        .await;
    site.clock.advance(10_000.hours());
    let before = site.clock.now();
    let answer = site.login("user").await.get("/").await;
    let after = site.clock.now();
    let at = answer.refreshed_at().unwrap();
    assert!(before <= at && at <= after);
    let at: i128 = answer.text.parse().unwrap();
    assert!(before.unix_timestamp_nanos() <= at && at <= after.unix_timestamp_nanos());
}
