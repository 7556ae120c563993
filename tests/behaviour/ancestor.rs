//! What django-session-refresh 0.3.0 does, row by row, and what is wrong with it and not here.

use axum::{Json, Router, routing::get};
use http::StatusCode;
use serde_json::{Value, json};
use session_refresh::{Outcome, Policy, RefreshInfo, SkipReason, session_refresh};
use session_refresh_tests::{Client, CurrentUser, Setup, Site, login_routes};
use time::{Duration, ext::NumericalDuration as _};
use tower_sessions::{Expiry, MemoryStore, SessionManagerLayer};

const KEY: &str = "session_refresh.refreshed_at";

#[session_refresh]
async fn page(refresh: RefreshInfo) -> String {
    refresh.outcome.to_string()
}

/// Whether `GET path` refreshes the session of somebody logged in for the first time.
async fn first_outcome(site: &Site, role: &str, path: &str) -> String {
    let answer = site.login(role).await.get(path).await;
    assert_eq!(answer.status, StatusCode::OK, "{path}");
    assert_eq!(
        answer.set_cookie().is_empty(),
        answer.outcome() != "refreshed",
        "{path}: the cookie is sent again when, and only when, the session is refreshed"
    );
    answer.outcome().to_owned()
}

// REFRESH_INTERVAL = 86400

/// Refreshes, and goes to one second before the interval and to its end.
async fn assert_interval(site: &Site, client: &Client, path: &str, interval: Duration) {
    assert_eq!(client.get(path).await.outcome(), "refreshed", "{path}");
    site.clock.advance(interval - 1.seconds());
    assert_eq!(client.get(path).await.outcome(), "not_due", "{path}");
    site.clock.advance(1.seconds());
    assert_eq!(client.get(path).await.outcome(), "refreshed", "{path}");
}

#[tokio::test]
async fn the_interval_is_24_hours_unless_the_route_says_otherwise() {
    #[session_refresh]
    async fn default() {}

    let site = Setup::new(Router::new().route("/", get(default)))
        .start()
        .await;
    let client = site.login("user").await;
    assert_interval(&site, &client, "/", 24.hours()).await;
}

#[tokio::test]
async fn a_route_sets_its_own_interval_as_text_seconds_or_constant() {
    #[session_refresh(interval = "1day 2h")]
    async fn text() {}
    #[session_refresh(interval = 90)]
    async fn seconds() {}
    #[session_refresh(interval = Duration::minutes(30))]
    async fn constant() {}

    let routes = Router::new()
        .route("/text", get(text))
        .route("/seconds", get(seconds))
        .route("/constant", get(constant));
    let site = Setup::new(routes).start().await;
    for (path, interval) in [
        ("/text", 26.hours()),
        ("/seconds", 90.seconds()),
        ("/constant", 30.minutes()),
    ] {
        let client = site.login("user").await;
        assert_interval(&site, &client, path, interval).await;
    }
}

// SESSION_KEY_NAME = "django_session_refreshed_at"

#[tokio::test]
async fn the_last_refresh_is_kept_under_the_default_key_or_the_routes_own() {
    #[session_refresh(key = "django_session_refreshed_at")]
    async fn own() {}

    let routes = Router::new()
        .route("/default", get(page))
        .route("/own", get(own));
    let site = Setup::new(routes).start().await;
    for (path, key, other) in [
        ("/default", KEY, "django_session_refreshed_at"),
        ("/own", "django_session_refreshed_at", KEY),
    ] {
        let client = site.login("user").await;
        client.get(path).await;
        assert!(site.value(&client, key).await.is_some(), "{path}");
        assert_eq!(site.value(&client, other).await, None, "{path}");
    }
}

// REQUEST_ATTR_NAME = "django_session_refresh"

#[tokio::test]
async fn the_handler_calls_the_answer_what_it_likes_and_may_do_without() {
    #[session_refresh]
    async fn renamed(django_session_refresh: RefreshInfo) -> String {
        django_session_refresh.outcome.to_string()
    }
    #[session_refresh]
    async fn destructured(RefreshInfo { refreshed, .. }: RefreshInfo) -> String {
        refreshed.to_string()
    }
    #[session_refresh]
    async fn without() -> &'static str {
        "no argument"
    }

    let routes = Router::new()
        .route("/renamed", get(renamed))
        .route("/destructured", get(destructured))
        .route("/without", get(without));
    let site = Setup::new(routes).start().await;
    for (path, text) in [
        ("/renamed", "refreshed"),
        ("/destructured", "true"),
        ("/without", "no argument"),
    ] {
        let answer = site.login("user").await.get(path).await;
        assert_eq!(
            (answer.text.as_str(), answer.outcome()),
            (text, "refreshed")
        );
    }
}

// SKIP_STAFF_USERS = False, SKIP_SUPERUSER_USERS = True

#[tokio::test]
async fn staff_and_superusers_are_skipped_where_the_route_says_so() {
    #[session_refresh(skip_staff)]
    async fn skip_staff() {}
    #[session_refresh(skip_superuser)]
    async fn skip_superuser() {}
    #[session_refresh(skip_staff, skip_superuser = true)]
    async fn skip_both() {}
    #[session_refresh(skip_staff = false, skip_superuser = false)]
    async fn skip_neither() {}

    let routes = Router::new()
        .route("/default", get(page))
        .route("/staff", get(skip_staff))
        .route("/superuser", get(skip_superuser))
        .route("/both", get(skip_both))
        .route("/neither", get(skip_neither));
    let site = Setup::new(routes).start().await;
    for (path, user, staff, superuser) in [
        ("/default", "refreshed", "refreshed", "refreshed"),
        ("/staff", "refreshed", "staff", "refreshed"),
        ("/superuser", "refreshed", "refreshed", "superuser"),
        ("/both", "refreshed", "staff", "superuser"),
        ("/neither", "refreshed", "refreshed", "refreshed"),
    ] {
        assert_eq!(first_outcome(&site, "user", path).await, user, "{path}");
        assert_eq!(first_outcome(&site, "staff", path).await, staff, "{path}");
        assert_eq!(
            first_outcome(&site, "superuser", path).await,
            superuser,
            "{path}"
        );
    }
}

// SKIP_STATIC_AND_MEDIA = True

#[tokio::test]
async fn static_and_media_paths_are_skipped_by_the_path_the_client_asked_for() {
    #[session_refresh(skip_paths("/static/", "/media/"))]
    async fn file() {}

    let nested = Router::new().route("/{file}", get(file));
    let site = Setup::new(
        Router::new()
            .route("/static/{file}", get(file))
            .nest("/media", nested.clone())
            // Inside, this one's path begins with `/media/`; the client asked for another.
            .nest("/pages", Router::new().nest("/media", nested.clone()))
            .route("/statics", get(file)),
    )
    .start()
    .await;
    for (path, outcome) in [
        ("/static/a.css", "path"),
        ("/media/a.png", "path"),
        ("/media/a.png?v=1", "path"),
        ("/pages/media/a.png", "refreshed"),
        ("/statics", "refreshed"),
    ] {
        assert_eq!(first_outcome(&site, "user", path).await, outcome, "{path}");
    }
}

#[tokio::test]
async fn a_predicate_skips_by_anything_in_the_requests_head() {
    fn is_background(parts: &http::request::Parts) -> bool {
        parts.headers.contains_key("x-background")
    }
    #[session_refresh(skip_if = is_background)]
    async fn polled() {}

    let site = Setup::new(Router::new().route("/", get(polled)))
        .start()
        .await;
    let client = site.login("user").await;
    let answer = client.get_with("/", "x-background", "1").await;
    assert_eq!((answer.outcome(), answer.set_cookie()), ("predicate", ""));
    assert_eq!(client.get("/").await.outcome(), "refreshed");
}

// SKIP_UNAUTHENTICATED_USERS = True

#[tokio::test]
async fn nobody_logged_in_is_skipped_unless_the_route_says_otherwise() {
    #[session_refresh(skip_unauthenticated = false)]
    async fn anybody() {}

    let routes = Router::new()
        .route("/default", get(page))
        .route("/anybody", get(anybody));
    let site = Setup::new(routes).start().await;
    let client = site.login("user").await;
    site.edit(&client, |record| {
        record.data = [("cart".to_owned(), json!(["a book"]))].into();
    })
    .await;

    let answer = client.get("/default").await;
    assert_eq!(
        (answer.outcome(), answer.set_cookie()),
        ("unauthenticated", "")
    );
    let answer = client.get("/anybody").await;
    assert_eq!(answer.outcome(), "refreshed");
    assert!(!answer.set_cookie().is_empty());
    assert_eq!(site.value(&client, "cart").await, Some(json!(["a book"])));
}

// request.django_session_refresh = {'refreshed': True, 'refreshed_at': datetime}

#[session_refresh(interval = "1h")]
async fn told(refresh: RefreshInfo) -> Json<Value> {
    let milliseconds =
        |at: Option<time::OffsetDateTime>| at.map(|at| at.unix_timestamp_nanos() / 1_000_000);
    Json(json!({
        "refreshed": refresh.refreshed,
        "refreshed_at": milliseconds(refresh.refreshed_at).map(|at| i64::try_from(at).unwrap()),
    }))
}

#[tokio::test]
async fn the_handler_is_told_whether_and_when_the_session_was_refreshed() {
    let site = Setup::new(Router::new().route("/", get(told)))
        .start()
        .await;
    let client = site.login("user").await;
    let tell = async || {
        let told: Value = serde_json::from_str(&client.get("/").await.text).unwrap();
        (
            told["refreshed"].as_bool().unwrap(),
            told["refreshed_at"].as_i64().unwrap(),
        )
    };
    let stamp = async || {
        let stamp = site.value(&client, KEY).await.unwrap();
        stamp.as_str().unwrap().parse::<i64>().unwrap()
    };
    let milliseconds =
        || i64::try_from(site.clock.now().unix_timestamp_nanos() / 1_000_000).unwrap();

    // The handler is told the time of the decision, the stamp has that of the commit.
    let before = milliseconds();
    let (refreshed, at) = tell().await;
    assert!(refreshed && before <= at && at <= stamp().await);

    let first = stamp().await;
    site.clock.advance(59.minutes());
    assert_eq!(tell().await, (false, first));

    site.clock.advance(1.minutes());
    let before = milliseconds();
    let (refreshed, at) = tell().await;
    assert!(refreshed && before <= at && at <= stamp().await && stamp().await > first);
}

// Run and found in it.

#[tokio::test]
async fn the_answer_is_there_on_every_request_not_only_on_those_that_refresh() {
    let site = Setup::new(Router::new().route("/", get(page)))
        .start()
        .await;
    let visitor = site.visitor().get("/").await;
    assert_eq!(
        (visitor.status, visitor.text.as_str()),
        (StatusCode::OK, "no_session")
    );

    let client = site.login("user").await;
    for outcome in ["refreshed", "not_due", "not_due"] {
        let answer = client.get("/").await;
        assert_eq!(
            (answer.status, answer.text.as_str()),
            (StatusCode::OK, outcome)
        );
    }
}

#[tokio::test]
async fn a_malformed_or_zoneless_time_of_the_last_refresh_is_no_500_and_heals() {
    let site = Setup::new(Router::new().route("/", get(page)))
        .start()
        .await;
    for stamp in [json!("not a date"), json!("2026-11-23T12:00:00")] {
        let client = site.login("user").await;
        site.edit(&client, |record| {
            record.data.insert(KEY.into(), stamp);
        })
        .await;
        for outcome in ["refreshed", "not_due"] {
            let answer = client.get("/").await;
            assert_eq!(
                (answer.status, answer.text.as_str()),
                (StatusCode::OK, outcome)
            );
        }
    }
}

#[tokio::test]
async fn a_last_refresh_in_the_future_does_not_stop_refreshing_for_good() {
    let site = Setup::new(Router::new().route("/", get(page)))
        .start()
        .await;
    let client = site.login("user").await;
    site.clock.advance(365.days());
    assert_eq!(client.get("/").await.outcome(), "refreshed");
    site.clock.advance(-365.days());
    for outcome in ["refreshed", "not_due"] {
        assert_eq!(client.get("/").await.outcome(), outcome);
    }
}

#[tokio::test]
async fn refreshed_is_not_reported_on_a_server_error() {
    #[session_refresh]
    async fn broken() -> StatusCode {
        StatusCode::INTERNAL_SERVER_ERROR
    }
    let site = Setup::new(Router::new().route("/", get(broken)))
        .start()
        .await;
    let answer = site.login("user").await.get("/").await;
    assert_eq!(
        (answer.outcome(), answer.set_cookie()),
        ("server_error", "")
    );
}

#[tokio::test]
async fn refreshed_is_not_reported_with_a_fixed_expiry() {
    #[session_refresh]
    async fn fixed(refresh: RefreshInfo) -> String {
        assert_eq!(refresh.outcome, Outcome::Skipped(SkipReason::FixedExpiry));
        refresh.refreshed.to_string()
    }
    let end = crate::whole_millis(time::OffsetDateTime::now_utc() + 1.days());
    let site = Setup::new(Router::new().route("/", get(fixed)))
        .expiry(Expiry::AtDateTime(end))
        .start()
        .await;
    let client = site.login("user").await;
    let expiry_date = site.session(&client).await.expiry_date;
    for _ in 0..2 {
        let answer = client.get("/").await;
        assert_eq!(
            (answer.text.as_str(), answer.outcome(), answer.set_cookie()),
            ("false", "fixed_expiry", "")
        );
        assert_eq!(answer.expires_at(), Some(end));
    }
    assert_eq!(site.session(&client).await.expiry_date, expiry_date);
    assert_eq!(site.value(&client, KEY).await, None);
}

#[tokio::test]
async fn without_the_anonymous_skip_a_hit_without_cookie_makes_no_session() {
    #[session_refresh(skip_unauthenticated = false)]
    async fn anybody() {}
    let site = Setup::new(Router::new().route("/", get(anybody)))
        .start()
        .await;
    for _ in 0..20 {
        let answer = site.visitor().get("/").await;
        assert_eq!((answer.outcome(), answer.set_cookie()), ("no_session", ""));
    }
    assert_eq!(site.counts(), crate::only_loads(0));
}

#[test]
fn an_interval_that_is_not_positive_is_refused() {
    for interval in [Duration::ZERO, -1.seconds(), Duration::MIN] {
        assert!(std::panic::catch_unwind(|| Policy::every(interval)).is_err());
    }
}

/// Not a row of its own: the ancestor is one middleware for all, here a route that says nothing does nothing.
#[tokio::test]
async fn a_route_that_is_not_annotated_keeps_no_session_alive() {
    let app = Router::new()
        .route("/poll", get(async |_: CurrentUser| "nothing new"))
        .merge(login_routes())
        .layer(SessionManagerLayer::new(MemoryStore::default()).with_secure(false));
    let server = session_refresh_tests::Server::start(app).await;
    let client = server.client();
    client.post("/login/user").await;
    let answer = client.get("/poll").await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!((answer.outcome(), answer.set_cookie()), ("", ""));
}
