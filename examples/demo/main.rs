//! Starts the demo: reads the environment, opens the database, serves, and says in one line why it can't.

mod app;
mod cart;
mod compare;
mod console;
mod failure;
mod login;
mod pages;
mod status;
mod store;
mod users;
mod view;

use std::{env, path::PathBuf, process::ExitCode};

use sqlx::{
    ConnectOptions as _,
    sqlite::{SqliteConnectOptions, SqliteJournalMode},
};
use tokio::net::TcpListener;
use tracing::Level;
use tracing_subscriber::{
    filter::Targets, layer::SubscriberExt as _, util::SubscriberInitExt as _,
};

#[tokio::main]
async fn main() -> ExitCode {
    // What needs somebody's attention. What happens to sessions is told line by line, by `console`.
    let events = Targets::new()
        .with_target("session_refresh", Level::WARN)
        .with_target("demo", Level::WARN);
    tracing_subscriber::registry()
        .with(tracing_subscriber::fmt::layer().without_time())
        .with(events)
        .init();

    match serve().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("demo: {message}");
            ExitCode::FAILURE
        }
    }
}

async fn serve() -> Result<(), String> {
    let port = port()?;
    // The port first: a second demo started by mistake should not touch the first one's file.
    let listener = TcpListener::bind(("127.0.0.1", port))
        .await
        .map_err(|error| format!("can't listen on 127.0.0.1:{port} ({error}); is PORT taken?"))?;
    let address = listener.local_addr().map_err(|error| error.to_string())?;

    let sessions = match env::var("REDIS_URL").or_else(|_| env::var("DATABASE_URL")) {
        Ok(url) => url,
        Err(_) => file().await?,
    };
    let app = store::app(&sessions)
        .await
        .map_err(|error| format!("can't keep sessions in {} ({error})", shown(&sessions)))?;
    let shops = compare::router()
        .await
        .map_err(|error| format!("can't open the shops ({error})"))?;

    println!("http://{address}   sessions in {}", shown(&sessions));
    println!("Open it, click, and watch here what becomes of your session.");
    axum::serve(listener, app.merge(shops))
        .await
        .map_err(|error| error.to_string())
}

/// The URL of the file that is the database unless a server is named; creates it.
async fn file() -> Result<String, String> {
    let path = env::var_os("DATABASE_PATH").map_or_else(|| "demo.sqlite3".into(), PathBuf::from);
    let options = SqliteConnectOptions::new()
        .filename(&path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal);
    let opened = options.connect().await;
    opened.map_err(|error| format!("can't use the database {} ({error})", path.display()))?;
    Ok(options.to_url_lossy().to_string())
}

/// A URL without the login that may be in it.
fn shown(url: &str) -> String {
    match (url.split_once("://"), url.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, server))) => format!("{scheme}://{server}"),
        _ => url.to_owned(),
    }
}

fn port() -> Result<u16, String> {
    let Some(port) = env::var_os("PORT") else {
        return Ok(3000);
    };
    let port = port.to_string_lossy();
    port.parse()
        .map_err(|_| format!("PORT must be a number from 0 to 65535, not {port:?}"))
}
