//! The events on target `session_refresh`.

use axum::{Extension, Router, routing::get};
use http::StatusCode;
use serde_json::json;
use session_refresh::{RefreshInfo, session_refresh, store::Serialized};
use session_refresh_tests::{Event, Events, FailingStore, Gate, Owned, Setup};
use time::{OffsetDateTime, ext::NumericalDuration as _};
use tower_sessions::{Expiry, MemoryStore, Session, session::Record};
use tracing::Level;

#[session_refresh(interval = "1h")]
async fn page() {}

/// The events since the last look, but for what is said once per process.
struct Watch {
    events: Events,
    seen: usize,
}

impl Watch {
    fn start() -> Self {
        Self {
            events: Events::record(),
            seen: 0,
        }
    }

    fn new_events(&mut self) -> Vec<Event> {
        let ours = self.events.ours();
        let new = ours[self.seen..].to_vec();
        self.seen = ours.len();
        new.into_iter()
            .filter(|event| event.level != Level::INFO)
            .collect()
    }
}

#[tokio::test]
async fn a_refresh_is_a_debug_event_and_a_skip_a_trace_event_with_its_reason() {
    #[session_refresh(skip_staff, skip_superuser)]
    async fn by_role() {}
    #[session_refresh(skip_paths("/path"))]
    async fn path() {}
    fn always(_: &http::request::Parts) -> bool {
        true
    }
    #[session_refresh(skip_if = always)]
    async fn predicate() {}
    #[session_refresh]
    async fn broken() -> StatusCode {
        StatusCode::INTERNAL_SERVER_ERROR
    }
    #[session_refresh]
    async fn public() -> [(&'static str, &'static str); 1] {
        [("cache-control", "public")]
    }
    #[session_refresh]
    async fn logout(session: Session) {
        session.flush().await.unwrap();
    }
    #[session_refresh]
    async fn fixed(session: Session) {
        let end = OffsetDateTime::now_utc() + 1.hours();
        session.set_expiry(Some(Expiry::AtDateTime(end)));
    }

    let routes = Router::new()
        .route("/", get(page))
        .route("/by_role", get(by_role))
        .route("/path", get(path))
        .route("/predicate", get(predicate))
        .route("/broken", get(broken))
        .route("/logout", get(logout))
        .route("/fixed", get(fixed))
        .route("/shared", get(public));
    let site = Setup::new(routes).start().await;
    let mut watch = Watch::start();

    let client = site.login("user").await;
    client.get("/").await;
    let refreshed = watch.new_events();
    assert_eq!(refreshed.len(), 1, "{refreshed:?}");
    assert_eq!(refreshed[0].level, Level::DEBUG);
    assert!(
        refreshed[0].text.starts_with("session refreshed"),
        "{refreshed:?}"
    );

    for (role, path, reason) in [
        ("staff", "/by_role", "staff"),
        ("superuser", "/by_role", "superuser"),
        ("user", "/path", "path"),
        ("user", "/predicate", "predicate"),
        ("user", "/broken", "server_error"),
        ("user", "/shared", "shared_cache"),
        ("user", "/logout", "gone"),
        ("user", "/fixed", "fixed_expiry"),
        ("", "/", "no_session"),
    ] {
        let client = match role {
            "" => site.visitor(),
            role => site.login(role).await,
        };
        let _ = watch.new_events();
        assert_eq!(client.get(path).await.outcome(), reason);
        let skipped = watch.new_events();
        assert_eq!(skipped.len(), 1, "{path}: {skipped:?}");
        assert_eq!(skipped[0].level, Level::TRACE, "{path}");
        assert_eq!(
            skipped[0].text,
            format!("session refresh skipped reason={reason}")
        );
    }
}

#[tokio::test]
async fn a_failure_is_an_error_event_that_says_what_failed() {
    let store = FailingStore::new(MemoryStore::default());
    let site = Setup::new(Router::new().route("/", get(page)))
        .store(store.clone())
        .start()
        .await;
    let mut watch = Watch::start();
    let client = site.login("user").await;
    for successes in [0, 1] {
        let _ = watch.new_events();
        store.fail_loads_after(successes);
        assert_eq!(client.get("/").await.outcome(), "unavailable");
        let errors: Vec<_> = watch
            .new_events()
            .into_iter()
            .filter(|event| event.level == Level::ERROR)
            .collect();
        assert_eq!(errors.len(), 1, "{errors:?}");
        assert!(errors[0].text.contains("the store is down"), "{errors:?}");
    }
}

#[tokio::test]
async fn a_kept_lifetime_that_is_none_is_a_debug_event() {
    let site = Setup::new(Router::new().route("/", get(page)))
        .on(Owned(Serialized::new(MemoryStore::default())))
        .start()
        .await;
    let client = site.login("user").await;
    let damage = |record: &mut Record| {
        let key = "session_refresh.lifetime".to_owned();
        record.data.insert(key, json!("idle=x"));
    };
    site.edit(&client, damage).await;
    let mut watch = Watch::start();
    assert_eq!(client.get("/").await.outcome(), "not_due");
    let told: Vec<_> = (watch.new_events().into_iter())
        .filter(|event| event.level == Level::DEBUG)
        .map(|event| event.text)
        .collect();
    let expected = "a session's own lifetime in its record is not valid: the layer's counts";
    assert_eq!(told, [expected]);
}

/// Warnings that an interval is not shorter than a session lives.
fn warnings(watch: &mut Watch) -> Vec<String> {
    let new = watch.new_events();
    new.into_iter()
        .filter(|event| event.level == Level::WARN)
        .map(|event| event.text)
        .collect()
}

#[tokio::test]
async fn an_interval_as_long_as_the_sessions_life_is_warned_of_once_per_route_with_both() {
    #[session_refresh(interval = "24h")]
    async fn longer() {}
    #[session_refresh(interval = "90m")]
    async fn equal() {}
    #[session_refresh(interval = "89m 59s")]
    async fn shorter() {}

    let routes = Router::new()
        .route("/warned/longer/{id}", get(longer))
        .route("/warned/equal", get(equal))
        .route("/warned/shorter", get(shorter));
    let site = Setup::new(routes)
        .expiry(Expiry::OnInactivity(90.minutes()))
        .start()
        .await;
    let mut watch = Watch::start();
    let client = site.login("user").await;

    // The same route under several paths, for several users, due or not.
    for path in ["/warned/longer/1", "/warned/longer/2", "/warned/longer/1"] {
        client.get(path).await;
        site.login("user").await.get(path).await;
    }
    let longer = warnings(&mut watch);
    assert_eq!(longer.len(), 1, "{longer:?}");
    for hint in ["1day", "1h 30m", "/warned/longer/{id}"] {
        assert!(longer[0].contains(hint), "{longer:?}");
    }

    for _ in 0..3 {
        client.get("/warned/equal").await;
        client.get("/warned/shorter").await;
    }
    let equal = warnings(&mut watch);
    assert_eq!(equal.len(), 1, "{equal:?}");
    assert_eq!(equal[0].matches("1h 30m").count(), 2, "{equal:?}");
    assert!(equal[0].contains("/warned/equal"));
}

#[tokio::test]
async fn a_session_that_ends_with_the_browser_lives_two_weeks_in_that_comparison() {
    #[session_refresh(interval = "13days")]
    async fn shorter() {}
    #[session_refresh(interval = "14days")]
    async fn equal() {}

    let routes = Router::new()
        .route("/warned/13", get(shorter))
        .route("/warned/14", get(equal));
    let site = Setup::new(routes)
        .expiry(Expiry::OnSessionEnd)
        .start()
        .await;
    let mut watch = Watch::start();
    let client = site.login("user").await;
    client.get("/warned/13").await;
    assert!(warnings(&mut watch).is_empty());
    client.get("/warned/14").await;
    assert_eq!(warnings(&mut watch).len(), 1);
}

#[tokio::test]
async fn no_event_at_any_level_has_a_session_id() {
    #[session_refresh]
    async fn logout(session: Session, _: RefreshInfo) {
        session.flush().await.unwrap();
    }
    #[session_refresh]
    async fn slow(Extension(gate): Extension<Gate>) {
        gate.pass().await;
    }
    let store = FailingStore::new(MemoryStore::default());
    let routes = Router::new()
        .route("/", get(page))
        .route("/logout", get(logout))
        .route("/slow", get(slow));
    let site = Setup::new(routes).store(store.clone()).start().await;
    let events = Events::record();
    let mut ids = vec!["Zm9yZ2VkIHNlc3Npb24gaQ".parse().unwrap()];

    site.visitor()
        .get_with("/", "cookie", "id=Zm9yZ2VkIHNlc3Npb24gaQ")
        .await;
    for path in ["/", "/logout", "/slow"] {
        for stamp in [json!(null), json!("malformed")] {
            let client = site.login("user").await;
            ids.push(client.session_id().unwrap());
            site.edit(&client, |record| {
                record
                    .data
                    .insert("session_refresh.refreshed_at".into(), stamp);
            })
            .await;
            if path == "/slow" {
                site.during(&client, path, async {
                    client.post("/logout").await;
                })
                .await;
            } else {
                client.get(path).await;
            }
        }
    }
    for successes in [0, 1] {
        let client = site.login("user").await;
        ids.push(client.session_id().unwrap());
        store.fail_loads_after(successes);
        client.get("/").await;
        store.mend();
    }

    let ours = events.ours();
    assert!(ours.len() > ids.len(), "{ours:?}");
    for id in ids {
        for event in &ours {
            for form in [id.to_string(), id.0.to_string(), format!("{:x}", id.0)] {
                assert!(!event.text.contains(&form), "{event:?}");
            }
        }
    }
}
