//! What a request costs: loads, writes and user look-ups.

use axum::{Router, routing::get};
use session_refresh::session_refresh;
use session_refresh_tests::{Client, Counts, Sessions, Setup, Site};
use time::{OffsetDateTime, ext::NumericalDuration as _};
use tower_sessions::Session;

use crate::only_loads;

#[session_refresh(interval = "1h")]
async fn page() {}

#[session_refresh(interval = "1h")]
async fn reading(session: Session) -> String {
    session.get("role").await.unwrap().unwrap_or_default()
}

#[session_refresh(interval = "1h", skip_unauthenticated = false)]
async fn anybody() {}

#[session_refresh(interval = "1h", skip_staff, skip_superuser)]
async fn by_role() {}

#[session_refresh(skip_paths("/skipped"))]
async fn skipped() {}

fn always(_: &http::request::Parts) -> bool {
    true
}

#[session_refresh(skip_if = always)]
async fn predicate() {}

#[session_refresh(interval = "1h")]
async fn renew(session: Session) {
    session.cycle_id().await.unwrap();
}

async fn renew_plainly(session: Session) {
    session.cycle_id().await.unwrap();
}

async fn site<K: Sessions>(sessions: K) -> Site<K> {
    let routes = Router::new()
        .route("/page", get(page))
        .route("/reading", get(reading))
        .route("/anybody", get(anybody))
        .route("/by_role", get(by_role))
        .route("/skipped", get(skipped))
        .route("/predicate", get(predicate))
        .route("/renew", get(renew))
        .route("/renew/plainly", get(renew_plainly));
    Setup::new(routes).on(sessions).start().await
}

/// A refresh: a touch, and the load that the handler shares; or a save, and one load afresh.
fn assert_one_refresh<K: Sessions>(counts: Counts) {
    let expected = if K::TOUCH {
        Counts {
            touches: 1,
            ..only_loads(1)
        }
    } else {
        assert!(counts.loads <= 2, "{counts:?}");
        Counts {
            saves: 1,
            ..only_loads(counts.loads)
        }
    };
    assert_eq!(counts, expected);
}

on_either_layer![
    not_due_is_one_load_no_write_and_no_look_up,
    due_is_one_write_and_one_look_up,
    twenty_requests_within_an_interval_are_one_write,
    who_does_not_matter_is_not_looked_up,
    a_skip_by_path_or_predicate_loads_nothing,
    a_visitor_costs_nothing,
    forged_malformed_and_expired_cookies_create_nothing,
    nobodys_session_gets_no_new_id,
];

async fn not_due_is_one_load_no_write_and_no_look_up<K: Sessions>(sessions: K) {
    let site = site(sessions).await;
    let client = site.due().await;
    client.get("/page").await;
    let _ = site.counts();
    let lookups = site.lookups.count();
    for path in ["/page", "/reading", "/anybody", "/by_role"] {
        assert_eq!(client.get(path).await.outcome(), "not_due");
        assert_eq!(site.counts(), only_loads(1), "{path}");
    }
    assert_eq!(site.lookups.count(), lookups);
}

async fn due_is_one_write_and_one_look_up<K: Sessions>(sessions: K) {
    let site = site(sessions).await;
    let client = site.due().await;
    for path in ["/page", "/reading", "/anybody", "/by_role"] {
        let lookups = site.lookups.count();
        assert_eq!(client.get(path).await.outcome(), "refreshed");
        assert_one_refresh::<K>(site.counts());
        let asked = usize::from(path != "/anybody");
        assert_eq!(site.lookups.count(), lookups + asked, "{path}");
        site.clock.advance(1.hours());
    }
}

/// S19.
async fn nobodys_session_gets_no_new_id<K: Sessions>(sessions: K) {
    let site = site(sessions).await;
    for path in ["/renew", "/renew/plainly"] {
        let visitor = site.visitor();
        for cookie in ["", "id=AAAAAAAAAAAAAAAAAAAAAA", "id=no id"] {
            let answer = visitor.get_with(path, "cookie", cookie).await;
            assert_eq!(answer.status, 200);
            assert!(answer.set_cookie().is_empty() || answer.removes_cookie());
            let counts = site.counts();
            assert_eq!((counts.creates, counts.saves, counts.touches), (0, 0, 0));
        }
    }
}

async fn twenty_requests_within_an_interval_are_one_write<K: Sessions>(sessions: K) {
    let site = site(sessions).await;
    let client = site.due().await;
    for _ in 0..2 {
        let mut writes = 0;
        for _ in 0..20 {
            client.get("/page").await;
            writes += site.counts().writes();
            site.clock.advance(2.minutes());
        }
        assert_eq!(writes, 1);
        site.clock.advance(20.minutes());
    }
    assert_eq!(site.lookups.count(), 2);
}

async fn who_does_not_matter_is_not_looked_up<K: Sessions>(sessions: K) {
    let site = site(sessions).await;
    let client = site.due().await;
    assert_eq!(client.get("/anybody").await.outcome(), "refreshed");
    assert_eq!(site.lookups.count(), 0);
}

async fn a_skip_by_path_or_predicate_loads_nothing<K: Sessions>(sessions: K) {
    let site = site(sessions).await;
    let client = site.login("user").await;
    for (path, outcome) in [("/skipped", "path"), ("/predicate", "predicate")] {
        assert_eq!(client.get(path).await.outcome(), outcome);
        assert_eq!(site.counts(), only_loads(0));
    }
    assert_eq!(site.lookups.count(), 0);
}

async fn a_visitor_costs_nothing<K: Sessions>(sessions: K) {
    let site = site(sessions).await;
    for path in ["/page", "/anybody", "/by_role", "/skipped", "/predicate"] {
        let answer = site.visitor().get(path).await;
        assert_eq!((answer.outcome(), answer.set_cookie()), ("no_session", ""));
    }
    assert_eq!(site.counts(), only_loads(0));
    assert_eq!(site.lookups.count(), 0);
}

async fn forged_malformed_and_expired_cookies_create_nothing<K: Sessions>(sessions: K) {
    const FORGED: &str = "id=AAAAAAAAAAAAAAAAAAAAAA";
    let site = site(sessions).await;

    for cookie in [
        FORGED,
        "id=",
        "id",
        "=",
        "id=short",
        "id=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
        "id=../../etc/passwd",
        "id=%00%ff",
        "id=\"quoted\"; id=twice",
        ";;;",
    ] {
        for path in ["/page", "/anybody", "/by_role", "/skipped"] {
            let answer = site.visitor().get_with(path, "cookie", cookie).await;
            assert!(answer.status.is_success(), "{cookie}: {answer:?}");
            // tower-sessions' layer alone forgets a session that it has looked for in vain.
            let is_removed = !K::TOUCH && answer.removes_cookie();
            assert!(
                answer.set_cookie().is_empty() || is_removed,
                "{cookie}: {answer:?}"
            );
            let counts = site.counts();
            assert_eq!(counts, only_loads(counts.loads), "{cookie}");
            assert!(counts.loads <= usize::from(cookie == FORGED), "{cookie}");
        }
    }

    let client: Client = site.login("user").await;
    site.edit(&client, |record| {
        record.expiry_date = OffsetDateTime::now_utc() - 1.seconds();
    })
    .await;
    let answer = client.get("/anybody").await;
    assert_eq!(answer.outcome(), "no_session");
    assert_eq!(answer.removes_cookie(), !K::TOUCH, "{answer:?}");
    assert_eq!(site.counts(), only_loads(1));
    assert_eq!(site.lookups.count(), 0);
}
