//! One server: `serve WAY STORE PORT [FILE]`. SQLite needs the file.

use std::{
    net::Ipv4Addr,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use axum::{Router, extract::Path, routing::get};
use session_refresh::{
    LifetimeLayer,
    store::{self, Touch},
};
use session_refresh_cost::{Way, lifetime_pages, pages, routes, sessions};
use session_refresh_load::{ACCELERATED, fill};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use time::OffsetDateTime;
use tower_sessions::SessionStore;
use tower_sessions_redis_store::RedisStore;
use tower_sessions_sqlx_store::{PostgresStore, SqliteStore};

#[tokio::main]
async fn main() {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let [way, store, port, ref file @ ..] = arguments[..] else {
        panic!("serve WAY STORE PORT [FILE]");
    };
    let port = port.parse().expect("a port is a number");
    let file = file.first().copied();
    match way {
        "actix-session" => peers::actix(port).await,
        "axum_session" => serve(peers::axum_session().await, port).await,
        "floor" => serve(ours(Way::Floor, store, file).await, port).await,
        "by-hand" => serve(ours(Way::ByHand, store, file).await, port).await,
        "always-save" => serve(ours(Way::AlwaysSave, store, file).await, port).await,
        "session-refresh" => serve(ours(Way::Attribute, store, file).await, port).await,
        ACCELERATED => serve(accelerated(store).await, port).await,
        way => panic!("no way is called {way}"),
    }
}

async fn serve(pages: Router, port: u16) {
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, port))
        .await
        .expect("the port is free");
    axum::serve(listener, pages)
        .await
        .expect("a server goes on");
}

/// The pages on tower-sessions' own store, and with the attribute on ours: each as its users have it.
async fn ours(way: Way, store: &str, file: Option<&str>) -> Router {
    match store {
        "redis" => {
            let pool = fill::redis().await;
            on(way, RedisStore::new(pool.clone()), || {
                store::RedisStore::new(pool)
            })
        }
        "postgres" => {
            let pool = fill::postgres().await;
            let upstream = PostgresStore::new(pool.clone());
            upstream.migrate().await.expect("the table is there");
            on(way, upstream, || store::PostgresStore::new(pool))
        }
        "sqlite" => {
            let options = SqliteConnectOptions::new()
                .filename(file.expect("SQLite needs a file"))
                .create_if_missing(true)
                .journal_mode(SqliteJournalMode::Wal)
                .synchronous(SqliteSynchronous::Normal)
                .busy_timeout(Duration::from_secs(10));
            let pool = sqlx::SqlitePool::connect_with(options)
                .await
                .expect("the file can be opened");
            let upstream = SqliteStore::new(pool.clone());
            upstream.migrate().await.expect("the table is there");
            on(way, upstream, || store::SqliteStore::new(pool))
        }
        store => panic!("no store is called {store}"),
    }
}

fn on<P, S>(way: Way, plain: P, touching: impl FnOnce() -> S) -> Router
where
    P: SessionStore + Clone,
    S: Touch + SessionStore,
{
    if way == Way::Attribute {
        lifetime_pages(way, touching())
    } else {
        pages(way, plain)
    }
}

/// The pages with the attribute, and `/ahead/{seconds}` for whoever lets an hour pass in less.
async fn accelerated(store: &str) -> Router {
    fn on<S: Touch + SessionStore + Clone>(store: S) -> Router {
        let ahead = Arc::<AtomicI64>::default();
        let seconds = Arc::clone(&ahead);
        let way = Way::Attribute;
        let lifetimes = LifetimeLayer::new(store, move |store| sessions(way, store));
        let lifetimes = lifetimes.with_clock(move || {
            let ahead = time::Duration::seconds(ahead.load(Ordering::Relaxed));
            OffsetDateTime::now_utc() + ahead
        });
        let set = async move |Path(ahead): Path<i64>| seconds.store(ahead, Ordering::Relaxed);
        let pages = routes(way).layer(lifetimes);
        pages.route("/ahead/{seconds}", get(set))
    }
    match store {
        "redis" => on(store::RedisStore::new(fill::redis().await)),
        "postgres" => on(store::PostgresStore::new(fill::postgres().await)),
        store => panic!("no store of a million sessions is called {store}"),
    }
}

/// What a Rust developer would pick instead: the same page, the same data, the same Redis.
mod peers {
    use std::net::Ipv4Addr;

    use actix_session::{
        Session, SessionMiddleware,
        config::{PersistentSession, TtlExtensionPolicy},
        storage::RedisSessionStore,
    };
    use actix_web::{App, HttpServer, cookie::Key, web};
    use axum::{Router, extract::Path, routing::get};
    use axum_session::{SessionConfig, SessionLayer, SessionStore};
    use axum_session_redispool::{SessionRedisPool, SessionRedisSession};
    use session_refresh_cost::{COOKIE, data};
    use session_refresh_load::url;
    use time::Duration;

    /// actix-session, which extends the session's time to live on every request.
    pub(crate) async fn actix(port: u16) {
        let store = RedisSessionStore::new(url("REDIS_URL"))
            .await
            .expect("Redis answers");
        let key = Key::generate();
        let lifecycle = PersistentSession::default()
            .session_ttl(Duration::weeks(2))
            .session_ttl_extension_policy(TtlExtensionPolicy::OnEveryRequest);
        HttpServer::new(move || {
            let sessions = SessionMiddleware::builder(store.clone(), key.clone())
                .cookie_name(COOKIE.to_owned())
                .session_lifecycle(lifecycle.clone())
                .build();
            App::new()
                .wrap(sessions)
                .route("/", web::get().to(actix_page))
                .route("/start/{bytes}", web::get().to(actix_start))
        })
        .workers(2)
        .bind((Ipv4Addr::LOCALHOST, port))
        .expect("the port is free")
        .run()
        .await
        .expect("a server goes on");
    }

    async fn actix_page(session: Session) -> String {
        session
            .get("name")
            .expect("the session is loaded")
            .unwrap_or_default()
    }

    async fn actix_start(bytes: web::Path<usize>, session: Session) -> &'static str {
        for (key, value) in data(*bytes) {
            session.insert(key, value).expect("a value is JSON");
        }
        ""
    }

    /// axum_session, which writes at most once per interval; and without its cache, which is wrong with two processes.
    pub(crate) async fn axum_session() -> Router {
        let client = redis::Client::open(url("REDIS_URL")).expect("it is a URL");
        let pool = SessionRedisPool::from(redis_pool::SingleRedisPool::from(client));
        let config = SessionConfig::default()
            .with_session_name(COOKIE)
            .with_lifetime(Duration::weeks(2))
            .with_memory_lifetime(Duration::ZERO)
            .with_db_update_interval(Duration::hours(24))
            .with_ip_and_user_agent(false);
        let store = SessionStore::<SessionRedisPool>::new(Some(pool), config)
            .await
            .expect("Redis answers");
        Router::new()
            .route("/", get(axum_page))
            .route("/start/{bytes}", get(axum_start))
            .layer(SessionLayer::new(store))
    }

    async fn axum_page(session: SessionRedisSession) -> String {
        session.get("name").unwrap_or_default()
    }

    async fn axum_start(Path(bytes): Path<usize>, session: SessionRedisSession) {
        for (key, value) in data(bytes) {
            session.set(&key, value);
        }
        session.set_store(true);
        session.set_longterm(true);
    }
}
