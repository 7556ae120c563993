//! What public applications write at login: after a week of use the session ends when its author meant it to.
//!
//! The shapes are those of applications found on GitHub; the guide `lifetimes` has them as a table.

use axum::{
    Form, Router,
    extract::Request,
    middleware::{Next, from_fn},
    response::Response,
    routing::{get, post},
};
use session_refresh::session_refresh;
use session_refresh_tests::{Sessions, Setup, backends::Backend};
use time::{Duration, OffsetDateTime};
use tower_sessions::{Expiry, Session, SessionStore};

use crate::{
    about,
    axum_login::{AuthSession, User, WithLogin},
};

session_refresh_tests::on_every_backend![a_week_later_a_session_ends_as_was_meant];

const DAY: Duration = Duration::DAY;
const HOUR: Duration = Duration::HOUR;

/// What the author means.
#[derive(Clone, Copy, Debug)]
enum Meant {
    /// So long after the last visit.
    Idle(Duration),
    /// So long after the login.
    Fixed(Duration),
    /// With the browser, and on the server two weeks after the last visit.
    Browser,
}

struct Snippet {
    name: &'static str,
    layer: Option<Expiry>,
    meant: Meant,
}

const SNIPPETS: [Snippet; 10] = [
    Snippet {
        name: "axum_login_fixed",
        layer: Some(Expiry::OnInactivity(DAY)),
        meant: Meant::Fixed(Duration::days(5)),
    },
    Snippet {
        name: "axum_login_remember",
        layer: Some(Expiry::OnInactivity(HOUR)),
        meant: Meant::Idle(Duration::days(30)),
    },
    Snippet {
        name: "cycle_and_idle",
        layer: None,
        meant: Meant::Idle(Duration::hours(20)),
    },
    Snippet {
        name: "fixed_then_insert",
        layer: Some(Expiry::OnInactivity(Duration::days(14))),
        meant: Meant::Fixed(DAY),
    },
    Snippet {
        name: "flush_cycle_fixed",
        layer: Some(Expiry::OnSessionEnd),
        meant: Meant::Fixed(Duration::days(30)),
    },
    Snippet {
        name: "clear_cycle_browser_save",
        layer: Some(Expiry::OnInactivity(Duration::days(30))),
        meant: Meant::Browser,
    },
    Snippet {
        name: "not_remembered",
        layer: Some(Expiry::OnInactivity(Duration::days(30))),
        meant: Meant::Browser,
    },
    Snippet {
        name: "as_long_as_the_provider_says",
        layer: Some(Expiry::OnInactivity(Duration::days(14))),
        meant: Meant::Fixed(Duration::hours(10)),
    },
    Snippet {
        name: "visitors_five_minutes",
        layer: Some(Expiry::OnInactivity(Duration::minutes(5))),
        meant: Meant::Idle(Duration::days(7)),
    },
    Snippet {
        name: "middleware",
        layer: None,
        meant: Meant::Idle(Duration::minutes(30)),
    },
];

async fn log_in(mut auth: AuthSession, session: Session, Form(form): Form<Vec<(String, String)>>) {
    let now = OffsetDateTime::now_utc();
    let user = User {
        role: "user".into(),
    };
    let remember = form.iter().any(|(name, _)| name == "remember");
    let (_, name) = form.into_iter().next().unwrap();
    match name.as_str() {
        "axum_login_fixed" => {
            auth.login(&user).await.unwrap();
            if remember {
                session.set_expiry(Some(Expiry::AtDateTime(now + Duration::days(5))));
            }
        }
        "axum_login_remember" => {
            auth.login(&user).await.unwrap();
            if remember {
                session.set_expiry(Some(Expiry::OnInactivity(Duration::days(30))));
            }
        }
        "cycle_and_idle" => {
            session.cycle_id().await.unwrap();
            session.insert("user", 7).await.unwrap();
            session.set_expiry(Some(Expiry::OnInactivity(Duration::hours(20))));
        }
        "fixed_then_insert" => {
            session.set_expiry(Some(Expiry::AtDateTime(now + DAY)));
            session.insert("user", 7).await.unwrap();
        }
        "flush_cycle_fixed" => {
            session.flush().await.unwrap();
            session.cycle_id().await.unwrap();
            session.set_expiry(Some(Expiry::AtDateTime(now + Duration::days(30))));
            session.insert("user", 7).await.unwrap();
        }
        "clear_cycle_browser_save" => {
            session.clear().await;
            session.cycle_id().await.unwrap();
            session.insert("user", 7).await.unwrap();
            session.set_expiry(Some(if remember {
                Expiry::AtDateTime(now + Duration::days(30))
            } else {
                Expiry::OnSessionEnd
            }));
            session.save().await.unwrap();
        }
        "not_remembered" => {
            if !remember {
                session.set_expiry(Some(Expiry::OnSessionEnd));
            }
            session.insert("user", 7).await.unwrap();
        }
        "as_long_as_the_provider_says" => {
            let provider = now + Duration::hours(10);
            session.insert("token", "..").await.unwrap();
            session.set_expiry(Some(Expiry::AtDateTime(provider.min(now + DAY))));
        }
        "visitors_five_minutes" => {
            session.cycle_id().await.unwrap();
            session.insert("user", 7).await.unwrap();
            session.set_expiry(Some(Expiry::OnInactivity(Duration::days(7))));
            session.save().await.unwrap();
        }
        // Its lifetime is the middleware's.
        "middleware" => session.insert("user", 7).await.unwrap(),
        other => panic!("{other}"),
    }
}

/// On each request of somebody who is logged in, `Expiry::OnInactivity`.
async fn extend(session: Session, request: Request, next: Next) -> Response {
    if session.get::<u32>("user").await.unwrap().is_some() {
        session.set_expiry(Some(Expiry::OnInactivity(Duration::minutes(30))));
    }
    next.run(request).await
}

#[session_refresh(interval = "5m")]
async fn page() {}

async fn note(session: Session) {
    let now = OffsetDateTime::now_utc().unix_timestamp_nanos().to_string();
    session.insert("note", now).await.unwrap();
}

async fn a_week_later_a_session_ends_as_was_meant<B: Backend>(backend: B) {
    for snippet in SNIPPETS {
        let sessions = WithLogin {
            sessions: session_refresh_tests::Owned(backend.touching()),
            backend: crate::axum_login::Backend::default(),
        };
        use_for_a_week(sessions, &snippet).await;
    }
}

/// Eight hours a day, a visit every twenty minutes, some of which write.
async fn use_for_a_week<K: Sessions>(sessions: K, snippet: &Snippet) {
    let Snippet { name, layer, meant } = snippet;
    let mut routes = Router::new()
        .route("/log_in", post(log_in))
        .route("/page", get(page))
        .route("/note", post(note));
    if *name == "middleware" {
        routes = routes.layer(from_fn(extend));
    }
    let mut setup = Setup::new(routes).without_user_source().on(sessions);
    if let Some(layer) = layer {
        setup = setup.expiry(*layer);
    }
    let site = setup.start().await;
    let client = site.visitor();
    let remembers = matches!(meant, Meant::Fixed(_) | Meant::Idle(_));
    let form = if remembers { "&remember=on" } else { "" };
    let login = client
        .post_form("/log_in", &format!("name={name}{form}"))
        .await;
    assert_eq!(login.status, 200, "{name}");
    // The middleware speaks from the next request on.
    client.get("/page").await;
    let (begin, id) = (site.clock.now(), client.session_id().unwrap());

    let mut last = begin;
    let ends = |last: OffsetDateTime| match meant {
        Meant::Idle(idle) => last + *idle,
        Meant::Fixed(length) => begin + *length,
        Meant::Browser => last + Duration::days(14),
    };
    for day in 0..7 {
        for visit in 0..24 {
            let at = begin + day * DAY + (visit + 1) * Duration::minutes(20);
            site.clock.advance(at - site.clock.now());
            let answer = client.get("/page").await;
            let is_live = at < ends(last);
            assert_eq!(
                answer.outcome() != "no_session",
                is_live,
                "{name} on day {day}: {visit}"
            );
            if !is_live {
                return;
            }
            last = at;
            let answer = if visit % 5 == 0 {
                client.post("/note").await
            } else {
                answer
            };
            if answer.set_cookie().starts_with("id=") {
                match (answer.cookie_age(), meant) {
                    (None, Meant::Browser) => {}
                    (Some(age), _) => assert!(about(age, ends(at) - at), "{name}: {answer:?}"),
                    (None, _) => panic!("{name}: {answer:?}"),
                }
            }
        }
    }
    let record = site.store().load(&id).await.unwrap().unwrap();
    assert!(
        about(record.expiry_date - ends(last), Duration::ZERO),
        "{name}: {record:?}"
    );
}
