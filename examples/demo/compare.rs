//! The first screen: three shops that differ in how they keep a session alive, and the same clicks for all of them.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration as StdDuration,
};

use axum::{
    Json, Router,
    extract::{Request, State},
    middleware::{self, Next},
    response::Response,
    routing::{MethodRouter, get, post},
};
use maud::html;
use serde::Serialize;
use session_refresh::{LifetimeLayer, session_refresh, store::SqliteStore};
use sqlx::{SqlitePool, sqlite::SqlitePoolOptions};
use time::{Duration, OffsetDateTime};
use tower_sessions::{Expiry, Session, SessionManagerLayer, SessionStore, cookie::SameSite};

use crate::{
    failure::Failure,
    login,
    view::{self, Page},
};

/// One way to keep a session alive.
struct Way {
    /// Its shop is served under this name, and its cookie has it.
    name: &'static str,
    title: &'static str,
    code: &'static str,
}

const ALWAYS_SAVE: Way = Way {
    name: "always-save",
    title: "Saved on each request",
    code: ".with_always_save(true)",
};

const STAMP: Way = Way {
    name: "stamp",
    title: "A stamp in its data",
    code: r#"session.insert("refreshed_at", now)"#,
};

const TOUCH: Way = Way {
    name: "touch",
    title: "session-refresh",
    code: r#"#[session_refresh(interval = "1s")]"#,
};

/// So short that nobody waits long for a session to be due.
const INTERVAL: Duration = Duration::SECOND;

/// How long the slow page takes: a click in another tab is faster.
const SLOW: StdDuration = StdDuration::from_millis(400);

/// What a session holds beside the cart, in bytes.
const PROFILE: usize = 1_000;

pub async fn index() -> Page {
    let ways = [ALWAYS_SAVE, STAMP, TOUCH];
    let body = html! {
        header.title { h1 { "Users stay logged in while they are active" } }
        section.card {
            p { "tower-sessions ends a session a fixed time after it was last " em { "written" } ". Reading does not extend it, so "
                "something has to write while a user is active. Here are three shops that differ in that alone, each on an SQLite "
                "database of its own. Each click goes to all three." }
            div.clicks #clicks {
                button.primary type="button" data-clicks="browse add-meanwhile logout-meanwhile" data-times="3" { "All of it, three times" }
                button type="button" data-clicks="browse" { "Open twenty pages" }
                button type="button" data-clicks="add-meanwhile" { "Add an item while a page loads" }
                button type="button" data-clicks="logout-meanwhile" { "Log out while a page loads" }
            }
            p.muted #happening role="status" { "Nothing has been clicked yet." }
            div.scroll tabindex="0" role="region" aria-label="What it came to" {
                table #compared {
                    thead {
                        tr {
                            td {}
                            @for way in &ways { th scope="col" { (way.title) br; code { (way.code) } } }
                        }
                    }
                    tbody {
                        @for (figure, text) in [
                            ("requests", "Requests"),
                            ("writes", "Writes"),
                            ("bytes", "Bytes written"),
                            ("lost", "Items lost from the cart"),
                            ("undone", "Logouts undone"),
                        ] {
                            tr {
                                th scope="row" { (text) }
                                @for way in &ways { td data-way=(way.name) data-figure=(figure) { "0" } }
                            }
                        }
                    }
                }
            }
            p.muted { "The databases count their writes themselves, logins and carts included, by triggers. The stamp is how "
                "django-session-refresh does it: like the shop on the right it writes once in a second, but the whole session, "
                "as it was when the page began to load." }
            noscript { p.error { "The clicks are made by a script." } }
        }
        section.card {
            h2 { "Then be somebody" }
            p { "The pages behind the login have a policy each, and say what became of the session. It ends "
                (crate::app::SESSION_LIFETIME.whole_seconds()) " seconds after you were last active; a minute before, you are warned." }
            (login::accounts("/dashboard"))
        }
    };
    view::page("What it does", &body)
}

/// The shops, at `/compare/` and each way's name.
pub async fn router() -> Result<Router, Failure> {
    let ledgers = [
        Ledger::open().await?,
        Ledger::open().await?,
        Ledger::open().await?,
    ];
    let [always_save, stamp, touch] = &ledgers;

    let sessions = SessionManagerLayer::new(always_save.upstream()).with_always_save(true);
    let always_saving = shop(get(page), get(slow)).layer(dressed(sessions, &ALWAYS_SAVE));

    let sessions = SessionManagerLayer::new(stamp.upstream());
    let pages = [get(page), get(slow)].map(|page| page.layer(middleware::from_fn(stamped)));
    let [stamped_page, stamped_slow] = pages;
    let stamping = shop(stamped_page, stamped_slow).layer(dressed(sessions, &STAMP));

    let sessions = LifetimeLayer::new(SqliteStore::new(touch.pool.clone()), |store| {
        dressed(SessionManagerLayer::new(store), &TOUCH)
    });
    let touching = shop(get(refreshed_page), get(refreshed_slow)).layer(sessions);

    let shops = [
        (ALWAYS_SAVE, always_saving),
        (STAMP, stamping),
        (TOUCH, touching),
    ];
    let mut router = Router::new();
    for ((way, shop), ledger) in shops.into_iter().zip(&ledgers) {
        let shop = shop.layer(middleware::from_fn_with_state(
            ledger.clone(),
            Ledger::count,
        ));
        router = router.nest(&format!("/compare/{}", way.name), shop);
    }
    Ok(router.route("/compare/counts", get(counts).with_state(ledgers)))
}

fn shop(page: MethodRouter, slow: MethodRouter) -> Router {
    Router::new()
        .route("/page", page)
        .route("/slow", slow)
        .route("/login", post(log_in))
        .route("/cart", post(add))
        .route("/logout", post(log_out))
        .route("/seen", get(seen))
}

fn dressed<S: SessionStore>(sessions: SessionManagerLayer<S>, way: &Way) -> SessionManagerLayer<S> {
    sessions
        .with_secure(false)
        .with_same_site(SameSite::Lax)
        .with_name(way.name)
        .with_path(format!("/compare/{}", way.name))
        .with_expiry(Expiry::OnInactivity(Duration::HOUR))
}

async fn log_in(session: Session) -> Result<(), Failure> {
    session.flush().await?;
    session.insert("user", "ursula").await?;
    session.insert("profile", "x".repeat(PROFILE)).await?;
    Ok(())
}

async fn log_out(session: Session) -> Result<(), Failure> {
    Ok(session.flush().await?)
}

async fn add(session: Session) -> Result<(), Failure> {
    let cart: u64 = session.get("cart").await?.unwrap_or(0);
    Ok(session.insert("cart", cart + 1).await?)
}

/// What a visitor would see: whether somebody is logged in, and the cart.
#[derive(Serialize)]
struct Seen {
    logged_in: bool,
    cart: u64,
}

async fn seen(session: Session) -> Result<Json<Seen>, Failure> {
    Ok(Json(Seen {
        logged_in: session.get::<String>("user").await?.is_some(),
        cart: session.get("cart").await?.unwrap_or(0),
    }))
}

async fn page(session: Session) -> Result<String, Failure> {
    Ok(session.get("user").await?.unwrap_or_default())
}

async fn slow(session: Session) -> Result<String, Failure> {
    let user = page(session).await;
    tokio::time::sleep(SLOW).await;
    user
}

#[session_refresh(interval = INTERVAL)]
async fn refreshed_page(session: Session) -> Result<String, Failure> {
    page(session).await
}

#[session_refresh(interval = INTERVAL)]
async fn refreshed_slow(session: Session) -> Result<String, Failure> {
    slow(session).await
}

/// What one writes by hand, and does so well: only for who is logged in, only when it is due.
async fn stamped(session: Session, request: Request, next: Next) -> Result<Response, Failure> {
    let now = OffsetDateTime::now_utc();
    let last: Option<i64> = session.get("refreshed_at").await?;
    let is_due = last.is_none_or(|last| now.unix_timestamp() - last >= INTERVAL.whole_seconds());
    if is_due && session.id().is_some() {
        session.insert("refreshed_at", now.unix_timestamp()).await?;
    }
    Ok(next.run(request).await)
}

/// A shop's database, which counts what is written, and how many requests the shop has had.
#[derive(Clone)]
struct Ledger {
    pool: SqlitePool,
    requests: Arc<AtomicU64>,
}

impl Ledger {
    async fn open() -> Result<Self, Failure> {
        // In memory: the database is gone when nobody is connected.
        let options = SqlitePoolOptions::new()
            .max_connections(1)
            .idle_timeout(None)
            .max_lifetime(None);
        let pool = options.connect("sqlite::memory:").await?;
        SqliteStore::new(pool.clone()).migrate().await?;
        // Each write of a session writes its expiry; some write its data.
        sqlx::raw_sql(
            "create table ledger (writes integer not null, bytes integer not null);
             insert into ledger values (0, 0);
             create trigger created after insert on tower_sessions begin
                 update ledger set writes = writes + 1,
                     bytes = bytes + length(new.expiry_date) + length(new.data);
             end;
             create trigger written after update of expiry_date on tower_sessions begin
                 update ledger set writes = writes + 1, bytes = bytes + length(new.expiry_date);
             end;
             create trigger data_written after update of data on tower_sessions begin
                 update ledger set bytes = bytes + length(new.data);
             end;
             create trigger deleted after delete on tower_sessions begin
                 update ledger set writes = writes + 1;
             end;",
        )
        .execute(&pool)
        .await?;
        Ok(Self {
            pool,
            requests: Arc::default(),
        })
    }

    /// tower-sessions' own store on it.
    fn upstream(&self) -> tower_sessions_sqlx_store::SqliteStore {
        tower_sessions_sqlx_store::SqliteStore::new(self.pool.clone())
    }

    async fn count(State(ledger): State<Self>, request: Request, next: Next) -> Response {
        ledger.requests.fetch_add(1, Ordering::Relaxed);
        next.run(request).await
    }

    async fn counts(&self) -> Result<Counts, Failure> {
        let (writes, bytes) = sqlx::query_as("select writes, bytes from ledger")
            .fetch_one(&self.pool)
            .await?;
        Ok(Counts {
            requests: self.requests.load(Ordering::Relaxed),
            writes,
            bytes,
        })
    }
}

#[derive(Serialize)]
struct Counts {
    requests: u64,
    writes: i64,
    bytes: i64,
}

async fn counts(State(ledgers): State<[Ledger; 3]>) -> Result<Json<[Counts; 3]>, Failure> {
    let [always_save, stamp, touch] = &ledgers;
    Ok(Json([
        always_save.counts().await?,
        stamp.counts().await?,
        touch.counts().await?,
    ]))
}
