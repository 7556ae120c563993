//! How long sessions live: what the application says of one session, absolute limits, and requests that are no activity.

use std::{collections::HashMap, convert::Infallible, ops::RangeInclusive, sync::Arc};

use async_trait::async_trait;
use axum::{
    Router,
    extract::{FromRequestParts, Path, Request},
    http::request::Parts,
    middleware::{Next, from_fn},
    response::Response,
    routing::{get, post},
};
use session_refresh::{
    Policy, RefreshLayer, SessionLifetime, SessionUser, session_refresh,
    store::{SessionId, Touch, Touched},
};
use session_refresh_tests::{Client, Counts, FoundAtGate, Gate, Owned, Sessions, Setup, Site};
use time::{Duration, OffsetDateTime};
use tower_sessions::{
    Expiry, Session, SessionStore,
    session::{Id, Record},
    session_store,
};

use crate::{about, only_loads};

on_touching_stores![
    a_remembered_session_stays_remembered,
    a_fixed_end_is_never_extended,
    an_end_in_the_past_ends_the_session,
    a_fixed_end_from_before_the_limit_is_limited,
    a_browser_sessions_cookie_stays_one,
    a_lifetime_survives_whatever_a_handler_does_but_flush,
    a_lifetime_is_the_layers_again_if_none_is_set,
    a_lifetime_that_is_set_again_writes_nothing,
    a_lifetime_that_another_request_has_set_holds_at_once,
    a_lifetime_that_another_request_has_set_is_not_refreshed_away,
    nor_by_a_request_that_has_something_to_write,
    a_lifetime_holds_in_another_process_and_after_a_restart,
    a_handler_that_saves_itself_keeps_its_lifetime,
    a_session_from_before_gets_a_lifetime_of_its_own,
    no_handler_sees_what_a_session_keeps_of_its_lifetime,
    what_a_handler_puts_in_its_place_counts_for_nothing,
    upstreams_store_reads_a_session_that_keeps_its_lifetime,
    an_absolute_limit_ends_the_most_active_session,
    an_absolute_limit_counts_again_from_a_login,
    a_limit_that_a_deployment_lowers_holds_at_once,
    a_session_from_before_the_limit_counts_from_when_it_is_seen,
    a_session_from_before_the_limit_loses_no_racing_write_and_no_logout,
    one_session_can_have_a_lower_limit,
    a_limit_is_restarted_for_no_session_that_is_not_there,
    the_servers_idle_time_can_differ_from_the_cookies,
    a_dropped_cookie_logs_nobody_out_whose_cookie_is_older,
    with_always_save_the_cookie_has_the_sessions_own_life,
    a_passive_route_extends_nothing_and_tells_the_end,
    a_passive_route_still_logs_in,
    a_prefetched_page_extends_nothing,
    of_two_policies_the_inner_one_says_whether_a_route_is_passive,
    a_connection_extends_its_session_and_asks_seldom,
    a_connection_sees_what_others_have_done,
];

const DAY: Duration = Duration::DAY;

#[session_refresh(interval = "24h")]
async fn page() {}

/// Logs in with a lifetime: `remember`, `fixed`, `browser`, or none of its own.
async fn enter(session: Session, Path(how): Path<String>) {
    session.insert("role", "user").await.unwrap();
    if let Some(expiry) = expiry(&how) {
        session.set_expiry(expiry);
    }
}

/// `Some(None)`: the layer's.
#[allow(clippy::option_option)]
fn expiry(how: &str) -> Option<Option<Expiry>> {
    match how {
        "remember" => Some(Some(Expiry::OnInactivity(30 * DAY))),
        "hour" => Some(Some(Expiry::OnInactivity(Duration::HOUR))),
        // The real time's: a test's clock begins there.
        "fixed" => Some(Some(Expiry::AtDateTime(
            OffsetDateTime::now_utc() + 2 * Duration::HOUR,
        ))),
        "over" => Some(Some(Expiry::AtDateTime(
            OffsetDateTime::now_utc() - Duration::HOUR,
        ))),
        "no_time" => Some(Some(Expiry::OnInactivity(Duration::ZERO))),
        "browser" => Some(Some(Expiry::OnSessionEnd)),
        "layers" => Some(None),
        _ => None,
    }
}

/// Does something with the session that is not its business.
#[session_refresh(interval = "24h")]
async fn action(session: Session, Path(action): Path<String>) {
    match action.as_str() {
        "insert" => session
            .insert(
                "at",
                OffsetDateTime::now_utc().unix_timestamp_nanos().to_string(),
            )
            .await
            .unwrap(),
        "save" => session.save().await.unwrap(),
        "insert_and_save" => {
            session.insert("x", "y").await.unwrap();
            session.save().await.unwrap();
            session.remove_value("x").await.unwrap();
        }
        "cycle_id" => session.cycle_id().await.unwrap(),
        "load" => session.load().await.unwrap(),
        "load_and_insert" => {
            session.load().await.unwrap();
            session.insert("loaded", "y").await.unwrap();
        }
        "clear" => {
            session.clear().await;
            session.insert("role", "user").await.unwrap();
        }
        "flush" => {
            session.flush().await.unwrap();
            session.insert("role", "user").await.unwrap();
        }
        "read" => {
            let _: Option<String> = session.get("role").await.unwrap();
        }
        other => panic!("{other}"),
    }
}

/// Not a page that knows of lifetimes: without the attribute.
async fn clear_unread(session: Session) {
    session.clear().await;
}

async fn restart(lifetime: SessionLifetime) {
    lifetime.restart();
}

async fn limit(lifetime: SessionLifetime, session: Session, Path(hours): Path<i64>) {
    session.insert("role", "user").await.unwrap();
    lifetime.set_max_lifetime((hours > 0).then_some(Duration::hours(hours)));
}

#[session_refresh(passive)]
async fn passive(session: Session, Path(action): Path<String>) -> String {
    match action.as_str() {
        "insert" => {
            let nanoseconds = OffsetDateTime::now_utc().unix_timestamp_nanos().to_string();
            session.insert("at", nanoseconds).await.unwrap();
        }
        "save" => session.save().await.unwrap(),
        "cycle_id" => session.cycle_id().await.unwrap(),
        "remember" => session.set_expiry(expiry("remember").unwrap()),
        _ => {}
    }
    session.get("role").await.unwrap().unwrap_or_default()
}

fn routes() -> Router {
    Router::new()
        .route("/page", get(page))
        .route("/enter/{how}", post(enter))
        .route("/do/{action}", post(action))
        .route("/clear_unread", post(clear_unread))
        .route("/restart", post(restart))
        .route("/limit/{hours}", post(limit))
        .route("/passive/{action}", get(passive).post(passive))
}

fn setup<K: Sessions>(sessions: K) -> Setup<K> {
    Setup::new(routes())
        .without_user_source()
        .expiry(Expiry::OnInactivity(14 * DAY))
        .on(sessions)
}

/// Somebody who has logged in so.
async fn entered<K: Sessions>(site: &Site<K>, how: &str) -> Client {
    let client = site.visitor();
    client.post(&format!("/enter/{how}")).await;
    let _ = site.counts();
    client
}

async fn a_remembered_session_stays_remembered<K: Sessions>(sessions: K) {
    let site = setup(sessions).start().await;
    let client = entered(&site, "remember").await;
    assert!(about(site.left(&client).await, 30 * DAY));
    // Two months of visits, the longest pause longer than the layer's two weeks.
    for days in [1, 20, 1, 29, 3] {
        site.clock.advance(days * DAY);
        let answer = client.get("/page").await;
        assert_eq!(
            (answer.outcome(), answer.cookie_age()),
            ("refreshed", Some(30 * DAY))
        );
        assert!(about(site.left(&client).await, 30 * DAY));
    }
    site.clock.advance(31 * DAY);
    assert_eq!(client.get("/page").await.outcome(), "no_session");
}

/// A7.
async fn a_fixed_end_is_never_extended<K: Sessions>(sessions: K) {
    let site = setup(sessions).start().await;
    let client = entered(&site, "fixed").await;
    let end = site.session(&client).await.expiry_date;
    site.clock.advance(Duration::HOUR);
    let answer = client.get("/page").await;
    assert_eq!(
        (answer.outcome(), answer.set_cookie()),
        ("fixed_expiry", "")
    );
    assert_eq!(
        (answer.expires_at(), answer.ends_at()),
        (Some(end), Some(end))
    );
    for action in [
        "insert",
        "save",
        "insert_and_save",
        "load_and_insert",
        "clear",
    ] {
        let answer = client.post(&format!("/do/{action}")).await;
        assert_eq!(site.session(&client).await.expiry_date, end, "{action}");
        if let Some(age) = answer.cookie_age() {
            assert!(about(age, Duration::HOUR), "{action}: {answer:?}");
        }
    }
    client.post("/do/cycle_id").await;
    assert_eq!(site.session(&client).await.expiry_date, end);
    site.clock.advance(Duration::HOUR);
    assert_eq!(client.get("/page").await.outcome(), "no_session");
}

async fn an_end_in_the_past_ends_the_session<K: Sessions>(sessions: K) {
    let site = setup(sessions).start().await;
    for how in ["over", "no_time"] {
        let client = entered(&site, "plainly").await;
        let id = client.session_id().unwrap();
        let answer = client.post(&format!("/enter/{how}")).await;
        assert_eq!(
            answer.cookie_age(),
            Some(Duration::ZERO),
            "{how}: {answer:?}"
        );
        // A key of Redis lasts to the end of its millisecond.
        let mut looks = 0..1_000;
        while looks.next().is_some() && site.record(id).await.is_some() {}
        assert_eq!(site.record(id).await, None, "{how}");
    }
}

async fn a_fixed_end_from_before_the_limit_is_limited<K: Sessions>(sessions: K) {
    let site = setup(sessions.clone()).start().await;
    let client = entered(&site, "fixed").await;
    let limited = setup(sessions)
        .max_lifetime(Duration::HOUR)
        .clock(&site.clock)
        .start()
        .await;
    let client = limited.welcome(&client);
    for _ in 0..2 {
        let answer = client.get("/page").await;
        assert_eq!(answer.outcome(), "fixed_expiry");
        assert!(about(limited.left(&client).await, Duration::HOUR));
    }
    limited.clock.advance(Duration::HOUR);
    assert_eq!(client.get("/page").await.outcome(), "no_session");
}

async fn a_browser_sessions_cookie_stays_one<K: Sessions>(sessions: K) {
    let site = setup(sessions).start().await;
    let client = entered(&site, "browser").await;
    for _ in 0..3 {
        site.clock.advance(DAY);
        for path in ["/page", "/passive/insert"] {
            let answer = client.get(path).await;
            assert!(answer.set_cookie().starts_with("id="), "{path}: {answer:?}");
            assert_eq!(answer.cookie_age(), None, "{path}: {answer:?}");
        }
        assert!(about(site.left(&client).await, 14 * DAY));
    }
}

async fn a_lifetime_survives_whatever_a_handler_does_but_flush<K: Sessions>(sessions: K) {
    let site = setup(sessions).start().await;
    let client = entered(&site, "remember").await;
    for action in [
        "insert",
        "save",
        "insert_and_save",
        "cycle_id",
        "load",
        "load_and_insert",
        "clear",
        "read",
    ] {
        site.clock.advance(15 * DAY);
        let answer = client.post(&format!("/do/{action}")).await;
        assert_eq!(answer.cookie_age(), Some(30 * DAY), "{action}");
        assert!(about(site.left(&client).await, 30 * DAY), "{action}");
    }
    // Cleared without having been read.
    client.post("/clear_unread").await;
    assert_eq!(site.session(&client).await.data.len(), 1);
    site.clock.advance(15 * DAY);
    assert_eq!(client.get("/page").await.cookie_age(), Some(30 * DAY));

    let answer = client.post("/do/flush").await;
    assert_eq!(answer.cookie_age(), Some(14 * DAY));
    assert!(about(site.left(&client).await, 14 * DAY));
}

async fn a_lifetime_is_the_layers_again_if_none_is_set<K: Sessions>(sessions: K) {
    let site = setup(sessions).start().await;
    for how in ["remember", "hour", "fixed", "browser"] {
        let client = entered(&site, how).await;
        let answer = client.post("/enter/layers").await;
        assert_eq!(answer.cookie_age(), Some(14 * DAY), "{how}");
        assert!(about(site.left(&client).await, 14 * DAY), "{how}");
        assert_eq!(site.session(&client).await.data.len(), 1, "{how}");
    }
}

/// A6: a middleware that knows the user's choice sets it on each request.
async fn a_lifetime_that_is_set_again_writes_nothing<K: Sessions>(sessions: K) {
    async fn remember(session: Session, request: Request, next: Next) -> Response {
        session.set_expiry(expiry("remember").unwrap());
        next.run(request).await
    }
    async fn read(session: Session) -> String {
        session.get("role").await.unwrap().unwrap_or_default()
    }
    let routes = routes()
        .route("/read", get(read))
        .route("/public", get(async || [("cache-control", "public")]))
        .layer(from_fn(remember));
    let site = Setup::new(routes).on(sessions).start().await;
    let client = site.login("user").await;
    client.get("/read").await;
    let _ = site.counts();
    for path in ["/read", "/page", "/public", "/read"] {
        client.get(path).await;
        assert_eq!(site.counts(), only_loads(1), "{path}");
    }
    // It is refreshed as any other, and by a touch alone.
    site.clock.advance(DAY);
    assert_eq!(client.get("/page").await.outcome(), "refreshed");
    let touched = Counts {
        touches: 1,
        ..only_loads(1)
    };
    assert_eq!(site.counts(), touched);
    assert!(about(site.left(&client).await, 30 * DAY));
}

async fn a_lifetime_that_another_request_has_set_holds_at_once<K: Sessions>(sessions: K) {
    async fn slow(session: Session, gate: axum::Extension<Gate>) {
        gate.pass().await;
        session.insert("slow", true).await.unwrap();
    }
    let routes = routes().route("/slow", get(slow));
    let site = Setup::new(routes)
        .without_user_source()
        .expiry(Expiry::OnInactivity(14 * DAY))
        .on(sessions)
        .start()
        .await;
    let client = entered(&site, "plainly").await;
    let answer = site
        .during(&client, "/slow", async {
            client.post("/enter/hour").await;
        })
        .await;
    assert_eq!(answer.cookie_age(), Some(Duration::HOUR));
    assert!(about(site.left(&client).await, Duration::HOUR));
}

/// Routes where another request comes in between.
fn waiting_routes() -> Router {
    #[session_refresh(interval = "24h", user = FoundAtGate)]
    async fn looked_up() {}

    /// Whose extractor loads the session once more.
    struct Reloads;

    impl SessionUser for Reloads {}

    impl<S: Sync> FromRequestParts<S> for Reloads {
        type Rejection = Infallible;

        async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Self::Rejection> {
            FoundAtGate::from_request_parts(parts, state).await?;
            parts
                .extensions
                .get::<Session>()
                .unwrap()
                .load()
                .await
                .unwrap();
            Ok(Self)
        }
    }

    #[session_refresh(interval = "24h", user = Reloads)]
    async fn reloaded() {}

    async fn fills_cart_for_an_hour(session: Session) {
        session.insert("cart", 1).await.unwrap();
        session.set_expiry(expiry("hour").unwrap());
    }

    async fn saves(session: Session, gate: axum::Extension<Gate>) {
        session.load().await.unwrap();
        gate.pass().await;
        session.save().await.unwrap();
    }

    async fn undoes(session: Session, gate: axum::Extension<Gate>) {
        session.insert("x", "y").await.unwrap();
        gate.pass().await;
        session.remove_value("x").await.unwrap();
    }

    (routes())
        .route("/undoes", get(undoes))
        .route("/looked_up", get(looked_up))
        .route("/reloaded", get(reloaded))
        .route("/saves", get(saves))
        .route("/cart", post(fills_cart_for_an_hour))
}

fn waiting<K: Sessions>(routes: Router, sessions: &K) -> Setup<K> {
    Setup::new(routes)
        .without_user_source()
        .expiry(Expiry::OnInactivity(14 * DAY))
        .on(sessions.clone())
}

async fn a_lifetime_that_another_request_has_set_is_not_refreshed_away<K: Sessions>(sessions: K) {
    let site = waiting(waiting_routes(), &sessions).start().await;
    // Whether it is refreshed, or saved as it was.
    for path in ["/looked_up", "/reloaded", "/saves", "/undoes"] {
        let client = entered(&site, "plainly").await;
        site.clock.advance(2 * DAY);
        let answer = site
            .during(&client, path, async {
                client.post("/enter/hour").await;
                site.clock.advance(Duration::HOUR / 2);
            })
            .await;
        let left = site.left(&client).await;
        if path == "/saves" || path == "/undoes" {
            assert!(about(left, Duration::HOUR), "{path}: {left}");
        } else {
            assert!(about(left, Duration::HOUR / 2), "{path}: {left}");
            assert_eq!(answer.outcome(), "not_due", "{path}");
            let told = answer.expires_at().unwrap() - site.clock.now();
            assert!(about(told, Duration::HOUR / 2), "{path}: {told}");
        }
        if path == "/undoes" {
            assert_eq!(answer.cookie_age(), Some(Duration::HOUR));
        }
    }
}

async fn nor_by_a_request_that_has_something_to_write<K: Sessions>(sessions: K) {
    async fn remember(session: Session, request: Request, next: Next) -> Response {
        session.set_expiry(expiry("remember").unwrap());
        next.run(request).await
    }

    let site = waiting(waiting_routes(), &sessions).start().await;
    // It sets what the session has.
    let remembering = waiting(waiting_routes().layer(from_fn(remember)), &sessions)
        .clock(&site.clock)
        .start()
        .await;
    let client = entered(&site, "remember").await;
    let there = remembering.welcome(&client);
    site.clock.advance(2 * DAY);
    remembering
        .during(&there, "/looked_up", async {
            client.post("/cart").await;
        })
        .await;
    assert!(about(site.left(&client).await, Duration::HOUR));
    assert_eq!(site.value(&client, "cart").await, Some(1.into()));

    // It has to write down what a new limit counts from.
    let limited = waiting(waiting_routes(), &sessions)
        .max_lifetime(60 * DAY)
        .clock(&site.clock)
        .start()
        .await;
    let client = entered(&site, "plainly").await;
    let there = limited.welcome(&client);
    site.clock.advance(2 * DAY);
    limited
        .during(&there, "/reloaded", async {
            client.post("/enter/hour").await;
        })
        .await;
    assert!(about(site.left(&client).await, Duration::HOUR));
}

async fn a_lifetime_holds_in_another_process_and_after_a_restart<K: Sessions>(sessions: K) {
    let site = setup(sessions.clone()).start().await;
    let beside = setup(sessions.clone()).clock(&site.clock).start().await;
    let client = entered(&site, "remember").await;
    let there = beside.welcome(&client);
    site.clock.advance(20 * DAY);
    assert_eq!(there.get("/page").await.cookie_age(), Some(30 * DAY));
    drop((site, there));
    // Deployed anew, and the layer's own lifetime is another.
    let site = setup(sessions)
        .expiry(Expiry::OnInactivity(DAY))
        .clock(&beside.clock)
        .start()
        .await;
    let client = site.welcome(&client);
    site.clock.advance(20 * DAY);
    assert_eq!(client.get("/page").await.cookie_age(), Some(30 * DAY));
    assert!(about(site.left(&client).await, 30 * DAY));
}

async fn a_handler_that_saves_itself_keeps_its_lifetime<K: Sessions>(sessions: K) {
    async fn saves(session: Session, Path(how): Path<String>) {
        session.insert("role", "user").await.unwrap();
        session.set_expiry(expiry(&how).unwrap());
        session.save().await.unwrap();
    }
    let routes = routes().route("/saves/{how}", post(saves));
    let site = Setup::new(routes).on(sessions).start().await;
    for (how, age) in [
        ("remember", Some(30 * DAY)),
        ("hour", Some(Duration::HOUR)),
        ("browser", None),
    ] {
        let client = site.visitor();
        for _ in 0..2 {
            let answer = client.post(&format!("/saves/{how}")).await;
            assert_eq!(answer.cookie_age(), age, "{how}");
            assert!(
                about(site.left(&client).await, age.unwrap_or(14 * DAY)),
                "{how}"
            );
        }
        let answer = client.post("/do/insert").await;
        assert_eq!(answer.cookie_age(), age, "{how}");
    }
}

async fn a_session_from_before_gets_a_lifetime_of_its_own<K: Sessions>(sessions: K) {
    let site = setup(sessions).start().await;
    let client = entered(&site, "plainly").await;
    assert_eq!(site.session(&client).await.data.len(), 1);
    client.post("/enter/remember").await;
    site.clock.advance(20 * DAY);
    assert_eq!(client.get("/page").await.cookie_age(), Some(30 * DAY));
}

async fn no_handler_sees_what_a_session_keeps_of_its_lifetime<K: Sessions>(sessions: K) {
    async fn look(session: Session) -> String {
        format!(
            "{:?}",
            session.get_value("session_refresh.lifetime").await.unwrap()
        )
    }
    let routes = routes().route("/look", get(look));
    let site = Setup::new(routes)
        .max_lifetime(90 * DAY)
        .on(sessions)
        .start()
        .await;
    let client = entered(&site, "remember").await;
    assert_eq!(client.get("/look").await.text, "None");
    assert!(
        site.session(&client)
            .await
            .data
            .contains_key("session_refresh.lifetime")
    );
}

/// A handler that stores what a client sends, under the name that a client sends.
async fn what_a_handler_puts_in_its_place_counts_for_nothing<K: Sessions>(sessions: K) {
    async fn put(session: Session, body: String) {
        let value = serde_json::from_str(&body).unwrap();
        session
            .insert_value("session_refresh.lifetime", value)
            .await
            .unwrap();
    }
    let routes = || routes().route("/put", post(put));
    let site = Setup::new(routes())
        .max_lifetime(90 * DAY)
        .on(sessions.clone())
        .start()
        .await;
    let client = entered(&site, "hour").await;
    let before = site.session(&client).await.data;
    for body in [
        r#""browser from=9999999999999 max=9999999999999""#,
        r#""idle=99999999999""#,
        r#""""#,
        "null",
        "{}",
        "7",
        "[[]]",
    ] {
        let answer = client.post_body("/put", body).await;
        assert_eq!(answer.cookie_age(), Some(Duration::HOUR), "{body}");
        assert_eq!(site.session(&client).await.data, before, "{body}");
        assert!(about(site.left(&client).await, Duration::HOUR), "{body}");
    }
    // So it is where there is nothing to keep.
    let unlimited = Setup::new(routes()).on(sessions.clone()).start().await;
    let plain = entered(&unlimited, "plainly").await;
    plain.post_body("/put", r#""browser""#).await;
    let answer = plain.post("/do/insert").await;
    assert_eq!(answer.cookie_age(), None);
    assert!(
        !unlimited
            .session(&plain)
            .await
            .data
            .contains_key("session_refresh.lifetime")
    );
    // Written by something that does not know what stands there.
    for value in [
        serde_json::json!({"idle": 1}),
        serde_json::json!("idle=x"),
        serde_json::json!(null),
    ] {
        site.edit(&client, |record| {
            record
                .data
                .insert("session_refresh.lifetime".into(), value.clone());
        })
        .await;
        assert_eq!(client.get("/passive/read").await.text, "user", "{value}");
    }
}

async fn upstreams_store_reads_a_session_that_keeps_its_lifetime<K: Sessions>(sessions: K) {
    async fn upstreams(session: Session, request: Request, next: Next) -> Response {
        session.insert("upstream", true).await.unwrap();
        next.run(request).await
    }
    let site = setup(sessions.clone()).start().await;
    let plain = Setup::new(routes().layer(from_fn(upstreams)))
        .store(sessions.store())
        .clock(&site.clock)
        .start()
        .await;
    let client = entered(&site, "remember").await;
    let there = plain.welcome(&client);
    assert_eq!(there.get("/passive/read").await.text, "user");
    // Back again.
    site.clock.advance(DAY);
    let answer = client.get("/page").await;
    assert_eq!(
        (answer.outcome(), answer.cookie_age()),
        ("refreshed", Some(30 * DAY))
    );
    assert_eq!(site.value(&client, "upstream").await, Some(true.into()));
}

async fn an_absolute_limit_ends_the_most_active_session<K: Sessions>(sessions: K) {
    let site = setup(sessions).max_lifetime(20 * DAY).start().await;
    let client = entered(&site, "plainly").await;
    let end = site.clock.now() + 20 * DAY;
    for day in 1..20 {
        site.clock.advance(DAY);
        client.post("/do/cycle_id").await;
        client.post("/do/save").await;
        let answer = client.post("/do/insert").await;
        let left = Ord::min(14 * DAY, (20 - day) * DAY);
        assert!(about(site.left(&client).await, left), "day {day}");
        assert!(about(answer.cookie_age().unwrap(), left), "day {day}");
        let answer = client.get("/page").await;
        assert!(
            about(answer.ends_at().unwrap() - end, Duration::ZERO),
            "day {day}"
        );
    }
    // Nor does what the application sets pass it.
    for how in ["remember", "browser", "layers"] {
        client.post(&format!("/enter/{how}")).await;
        assert!(about(site.left(&client).await, DAY), "{how}");
    }
    site.clock.advance(DAY);
    assert_eq!(client.get("/page").await.outcome(), "no_session");
    assert_eq!(client.get("/passive/read").await.text, "");
}

async fn an_absolute_limit_counts_again_from_a_login<K: Sessions>(sessions: K) {
    let site = setup(sessions).max_lifetime(20 * DAY).start().await;
    let client = entered(&site, "plainly").await;
    site.clock.advance(10 * DAY);
    client.post("/restart").await;
    assert!(about(site.left(&client).await, 14 * DAY));
    site.clock.advance(10 * DAY);
    let answer = client.get("/page").await;
    assert!(about(
        answer.ends_at().unwrap() - site.clock.now(),
        10 * DAY
    ));
    // It changes nothing else.
    assert_eq!(client.get("/passive/read").await.text, "user");
}

async fn a_limit_that_a_deployment_lowers_holds_at_once<K: Sessions>(sessions: K) {
    let site = setup(sessions.clone()).max_lifetime(90 * DAY).start().await;
    let client = entered(&site, "remember").await;
    site.clock.advance(10 * DAY);
    let lowered = setup(sessions.clone())
        .max_lifetime(12 * DAY)
        .clock(&site.clock)
        .start()
        .await;
    let client = lowered.welcome(&client);
    let answer = client.get("/passive/read").await;
    assert!(about(
        answer.expires_at().unwrap() - site.clock.now(),
        2 * DAY
    ));
    let lower_still = setup(sessions)
        .max_lifetime(9 * DAY)
        .clock(&site.clock)
        .start()
        .await;
    let client = lower_still.welcome(&client);
    let answer = client.get("/passive/read").await;
    assert_eq!((answer.outcome(), answer.text.as_str()), ("no_session", ""));
}

async fn a_session_from_before_the_limit_counts_from_when_it_is_seen<K: Sessions>(sessions: K) {
    let site = setup(sessions.clone()).start().await;
    for max in [20 * DAY, 10 * DAY] {
        let client = entered(&site, "plainly").await;
        client.post("/do/insert").await;
        let data = site.session(&client).await.data;
        site.clock.advance(DAY);
        let limited = setup(sessions.clone())
            .max_lifetime(max)
            .clock(&site.clock)
            .start()
            .await;
        let client = limited.welcome(&client);
        let _ = limited.counts();
        let answer = client.get("/page").await;
        assert!(about(answer.ends_at().unwrap() - site.clock.now(), max));
        let counts = limited.counts();
        assert_eq!((counts.touches, counts.saves), (1, 0));
        let mut kept = limited.session(&client).await.data;
        assert!(kept.remove("session_refresh.lifetime").is_some());
        assert_eq!(kept, data);
        // Counted from then on.
        limited.clock.advance(DAY);
        let answer = client.get("/page").await;
        assert!(about(
            answer.ends_at().unwrap() - site.clock.now(),
            max - DAY
        ));
        while limited.clock.now() + DAY < answer.ends_at().unwrap() {
            limited.clock.advance(DAY);
            assert_ne!(client.get("/page").await.outcome(), "no_session");
        }
        assert!(about(limited.left(&client).await, DAY));
        limited.clock.advance(DAY);
        assert_eq!(client.get("/page").await.outcome(), "no_session");
    }
}

async fn a_session_from_before_the_limit_loses_no_racing_write_and_no_logout<K: Sessions>(
    sessions: K,
) {
    async fn add(session: Session) {
        session.insert("added", true).await.unwrap();
    }
    let site = setup(sessions.clone()).start().await;
    let routes = routes().route("/add", post(add));
    let limited = Setup::new(routes)
        .without_user_source()
        .max_lifetime(20 * DAY)
        .clock(&site.clock)
        .on(sessions)
        .start()
        .await;
    for _ in 0..20 {
        let client = limited.welcome(&entered(&site, "plainly").await);
        tokio::join!(
            client.get("/page"),
            client.post("/add"),
            client.get("/page")
        );
        assert_eq!(limited.value(&client, "added").await, Some(true.into()));

        let client = limited.welcome(&entered(&site, "plainly").await);
        let id = client.session_id().unwrap();
        tokio::join!(
            client.get("/page"),
            client.post("/logout"),
            client.get("/page")
        );
        assert_eq!(limited.record(id).await, None);
    }
}

async fn one_session_can_have_a_lower_limit<K: Sessions>(sessions: K) {
    let site = setup(sessions).max_lifetime(20 * DAY).start().await;
    let client = site.visitor();
    client.post("/limit/12").await;
    assert!(about(site.left(&client).await, 12 * Duration::HOUR));
    site.clock.advance(6 * Duration::HOUR);
    client.post("/do/insert").await;
    assert!(about(site.left(&client).await, 6 * Duration::HOUR));
    // The layer's is the limit of all; none of its own leaves that.
    client.post("/limit/9999").await;
    client.post("/enter/remember").await;
    let quarter = Duration::HOUR * 6;
    assert!(about(site.left(&client).await, 20 * DAY - quarter));
    client.post("/limit/0").await;
    assert!(about(site.left(&client).await, 20 * DAY - quarter));

    // And without one of the layer's.
    let client = entered(&site, "plainly").await;
    client.post("/limit/1").await;
    site.clock.advance(Duration::HOUR);
    assert_eq!(client.get("/page").await.outcome(), "no_session");
}

async fn a_limit_is_restarted_for_no_session_that_is_not_there<K: Sessions>(sessions: K) {
    let site = setup(sessions).max_lifetime(20 * DAY).start().await;
    let visitor = site.visitor();
    assert_eq!(visitor.post("/restart").await.set_cookie(), "");
    let client = entered(&site, "plainly").await;
    site.clock.advance(21 * DAY);
    let answer = client.post("/restart").await;
    assert_eq!(answer.set_cookie(), "");
    assert_eq!((site.counts().creates, answer.status.as_u16()), (0, 200));
}

/// A cookie that goes with the browser, and a server that forgets after half an hour.
async fn the_servers_idle_time_can_differ_from_the_cookies<K: Sessions>(sessions: K) {
    for (expiry, age) in [
        (Expiry::OnSessionEnd, None),
        (Expiry::OnInactivity(14 * DAY), Some(14 * DAY)),
    ] {
        let site = Setup::new(routes())
            .expiry(expiry)
            .idle(2 * DAY)
            .on(sessions.clone())
            .start()
            .await;
        let client = entered(&site, "plainly").await;
        assert!(about(site.left(&client).await, 2 * DAY));
        site.clock.advance(DAY);
        let answer = client.get("/page").await;
        assert_eq!((answer.outcome(), answer.cookie_age()), ("refreshed", age));
        assert!(answer.set_cookie().starts_with("id="));
        assert!(about(site.left(&client).await, 2 * DAY));
        // One that was set for the session is the session's.
        client.post("/enter/hour").await;
        assert!(about(site.left(&client).await, Duration::HOUR));
    }
}

/// A2: once a day a server-side render refreshes, and its `Set-Cookie` is dropped.
async fn a_dropped_cookie_logs_nobody_out_whose_cookie_is_older<K: Sessions>(sessions: K) {
    let site = setup(sessions).cookie_age(400 * DAY).start().await;
    let client = site.visitor();
    let login = client.post("/enter/plainly").await;
    assert_eq!(login.cookie_age(), Some(400 * DAY));
    let (kept, _) = login.set_cookie().split_once(';').unwrap();
    for _ in 0..20 {
        site.clock.advance(DAY);
        let rendered = client.get("/page").await;
        assert_eq!(
            (rendered.outcome(), rendered.cookie_age()),
            ("refreshed", Some(400 * DAY))
        );
        assert!(about(site.left(&client).await, 14 * DAY));
    }
    // Day 20: the cookie of the login, which the browser still has.
    let browser = site.visitor();
    let page = browser.get_with("/passive/read", "cookie", kept).await;
    assert_eq!(page.text, "user");
    // A cookie without an age, and one with a fixed end, stay so.
    assert_eq!(client.post("/enter/browser").await.cookie_age(), None);
    let client = entered(&site, "plainly").await;
    let answer = client.post("/enter/remember").await;
    assert_eq!(answer.cookie_age(), Some(400 * DAY));
}

async fn with_always_save_the_cookie_has_the_sessions_own_life<K: Sessions>(sessions: K) {
    let site = setup(sessions).always_save().start().await;
    let client = entered(&site, "remember").await;
    for path in ["/passive/read", "/page"] {
        assert_eq!(
            client.get(path).await.cookie_age(),
            Some(30 * DAY),
            "{path}"
        );
    }
}

/// A8.
async fn a_passive_route_extends_nothing_and_tells_the_end<K: Sessions>(sessions: K) {
    let site = setup(sessions).start().await;
    let client = entered(&site, "plainly").await;
    let end = site.session(&client).await.expiry_date;
    site.clock.advance(2 * DAY);
    for action in ["read", "insert", "save", "cycle_id", "insert"] {
        let answer = client.get(&format!("/passive/{action}")).await;
        assert_eq!(
            (answer.outcome(), answer.text.as_str()),
            ("passive", "user"),
            "{action}"
        );
        assert_eq!(answer.expires_at(), Some(end), "{action}");
        assert_eq!(site.session(&client).await.expiry_date, end, "{action}");
    }
    assert!(site.value(&client, "at").await.is_some());
    // What the application says of the session's life holds all the same.
    client.get("/passive/remember").await;
    assert!(about(site.left(&client).await, 30 * DAY));
    // Any other route refreshes as ever.
    site.clock.advance(DAY);
    assert_eq!(client.get("/page").await.outcome(), "refreshed");
}

async fn a_passive_route_still_logs_in<K: Sessions>(sessions: K) {
    let site = setup(sessions).start().await;
    let client = site.visitor();
    let answer = client.get("/passive/insert").await;
    assert_eq!(answer.outcome(), "no_session");
    assert!(about(site.left(&client).await, 14 * DAY));
}

async fn a_prefetched_page_extends_nothing<K: Sessions>(sessions: K) {
    #[session_refresh(interval = "24h", skip_prefetch = false)]
    async fn eager() {}
    let routes = routes().route("/eager", get(eager));
    let site = Setup::new(routes)
        .without_user_source()
        .expiry(Expiry::OnInactivity(14 * DAY))
        .on(sessions)
        .start()
        .await;
    let client = entered(&site, "plainly").await;
    let end = site.session(&client).await.expiry_date;
    site.clock.advance(DAY);
    for purpose in [
        "prefetch",
        "prefetch;prerender",
        "prefetch;anonymous-client-ip",
        "prerender",
    ] {
        let answer = client.get_with("/page", "sec-purpose", purpose).await;
        assert_eq!(
            (answer.outcome(), answer.set_cookie()),
            ("prefetch", ""),
            "{purpose}"
        );
        assert_eq!(answer.expires_at(), Some(end), "{purpose}");
    }
    assert_eq!(site.session(&client).await.expiry_date, end);
    for (path, purpose) in [("/page", "navigate"), ("/eager", "prefetch")] {
        let answer = client.get_with(path, "sec-purpose", purpose).await;
        assert_eq!(answer.outcome(), "refreshed", "{path} {purpose}");
        site.clock.advance(DAY);
    }
}

async fn of_two_policies_the_inner_one_says_whether_a_route_is_passive<K: Sessions>(sessions: K) {
    let group = routes()
        .route(
            "/plain",
            get(async |session: Session| {
                session
                    .insert(
                        "x",
                        OffsetDateTime::now_utc().unix_timestamp_nanos().to_string(),
                    )
                    .await
                    .unwrap();
            }),
        )
        .layer(RefreshLayer::new().policy(Policy::new().passive(true)));
    let site = Setup::new(group)
        .without_user_source()
        .expiry(Expiry::OnInactivity(14 * DAY))
        .on(sessions)
        .start()
        .await;
    let client = entered(&site, "plainly").await;
    site.clock.advance(2 * DAY);
    let answer = client.get("/plain").await;
    assert_eq!(answer.outcome(), "passive");
    assert!(about(site.left(&client).await, 12 * DAY));
    assert_eq!(client.get("/page").await.outcome(), "refreshed");
    assert!(about(site.left(&client).await, 14 * DAY));
    site.clock.advance(2 * DAY);
    client.post("/do/insert").await;
    assert!(about(site.left(&client).await, 14 * DAY));
}

/// Stands for a socket whose user types something whenever the gate opens.
async fn connect(
    lifetime: SessionLifetime,
    session: Session,
    gate: axum::Extension<Gate>,
    outcomes: axum::Extension<tokio::sync::mpsc::UnboundedSender<String>>,
) {
    let _: Option<String> = session.get("role").await.unwrap();
    tokio::spawn(async move {
        loop {
            gate.pass().await;
            let info = lifetime.touch(Duration::DAY).await;
            outcomes.send(info.outcome.to_string()).unwrap();
        }
    });
}

/// A site with one connection, and what it does next.
async fn connected<K: Sessions>(sessions: K) -> (Site<K>, Client, impl AsyncFnMut() -> String) {
    let (told, mut outcomes) = tokio::sync::mpsc::unbounded_channel();
    let routes = routes()
        .route("/connect", get(connect))
        .layer(axum::Extension(told));
    let site = Setup::new(routes)
        .without_user_source()
        .expiry(Expiry::OnInactivity(14 * DAY))
        .on(sessions)
        .start()
        .await;
    let client = entered(&site, "plainly").await;
    client.get("/connect").await;
    site.gate.arrived().await;
    let _ = site.counts();
    let gate = site.gate.clone();
    let next = async move || {
        gate.open();
        outcomes.recv().await.unwrap()
    };
    (site, client, next)
}

async fn a_connection_extends_its_session_and_asks_seldom<K: Sessions>(sessions: K) {
    let (site, client, mut touch) = connected(sessions).await;
    for _ in 0..3 {
        assert_eq!(touch().await, "not_due");
        assert_eq!(site.counts(), Counts::default());
        site.clock.advance(DAY);
        assert_eq!(touch().await, "refreshed");
        assert_eq!(
            site.counts(),
            Counts {
                touches: 1,
                ..only_loads(1)
            }
        );
        assert!(about(site.left(&client).await, 14 * DAY));
    }
}

async fn a_connection_sees_what_others_have_done<K: Sessions>(sessions: K) {
    let (site, client, mut touch) = connected(sessions.clone()).await;
    // Extended by a page.
    site.clock.advance(DAY);
    client.get("/page").await;
    assert_eq!(touch().await, "not_due");
    // Past the end that the connection knows of.
    for _ in 0..2 {
        site.clock.advance(10 * DAY);
        client.get("/page").await;
    }
    assert_eq!(touch().await, "not_due");
    // Given another lifetime by a page: a longer one, and one that is not to be passed.
    client.post("/enter/remember").await;
    site.clock.advance(2 * DAY);
    assert_eq!(touch().await, "refreshed");
    assert!(about(site.left(&client).await, 30 * DAY));
    site.clock.advance(DAY);
    client.post("/enter/hour").await;
    assert_eq!(touch().await, "not_due");
    assert!(about(site.left(&client).await, Duration::HOUR));
    site.clock.advance(DAY);
    assert_eq!(touch().await, "gone");

    let (site, client, mut touch) = connected(sessions).await;
    client.post("/logout").await;
    site.clock.advance(DAY);
    assert_eq!(touch().await, "gone");
    assert_eq!(touch().await, "no_session");
}

/// A store of an application's own, which moves an expiry by a lock around all of it.
#[derive(Clone, Debug, Default)]
struct Theirs(Arc<tokio::sync::Mutex<HashMap<Id, Record>>>);

#[async_trait]
impl SessionStore for Theirs {
    async fn create(&self, record: &mut Record) -> session_store::Result<()> {
        self.0.lock().await.insert(record.id, record.clone());
        Ok(())
    }

    async fn save(&self, record: &Record) -> session_store::Result<()> {
        if let Some(known) = self.0.lock().await.get_mut(&record.id) {
            known.clone_from(record);
        }
        Ok(())
    }

    async fn load(&self, id: &Id) -> session_store::Result<Option<Record>> {
        Ok(self.0.lock().await.get(id).cloned())
    }

    async fn delete(&self, id: &Id) -> session_store::Result<()> {
        self.0.lock().await.remove(id);
        Ok(())
    }
}

impl Touch for Theirs {
    async fn touch(
        &self,
        id: SessionId,
        due: RangeInclusive<OffsetDateTime>,
        expiry: OffsetDateTime,
    ) -> Result<Touched, axum::BoxError> {
        let mut records = self.0.lock().await;
        let Some(record) = records.get_mut(&id.into()) else {
            return Ok(Touched::Gone);
        };
        if record.expiry_date > *due.end() || record.expiry_date >= expiry {
            return Ok(Touched::NotDue);
        }
        if record.expiry_date < *due.start() {
            return Ok(Touched::Shortened);
        }
        record.expiry_date = expiry;
        Ok(Touched::Done)
    }
}

#[tokio::test]
async fn a_store_of_the_applications_own_keeps_lifetimes_and_limits() {
    let theirs = || Owned(Theirs::default());
    a_remembered_session_stays_remembered(theirs()).await;
    a_fixed_end_is_never_extended(theirs()).await;
    an_absolute_limit_ends_the_most_active_session(theirs()).await;
    a_passive_route_extends_nothing_and_tells_the_end(theirs()).await;

    // One that is from before the limit: its record is loaded and saved.
    let sessions = theirs();
    let site = setup(sessions.clone()).start().await;
    let client = entered(&site, "plainly").await;
    let limited = setup(sessions)
        .max_lifetime(20 * DAY)
        .clock(&site.clock)
        .start()
        .await;
    let client = limited.welcome(&client);
    for left in [20, 19, 18] {
        let answer = client.get("/page").await;
        assert!(about(
            answer.ends_at().unwrap() - site.clock.now(),
            left * DAY
        ));
        site.clock.advance(DAY);
    }
}
