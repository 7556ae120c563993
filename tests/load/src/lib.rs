//! What the servers and whoever loads them agree on.

use std::path::PathBuf;

pub mod fill;
pub mod measure;

/// The ways to keep a session alive, as they are named in commands and results.
pub const WAYS: [&str; 4] = ["floor", "by-hand", "always-save", "session-refresh"];
/// `session-refresh`, but by a clock that `/ahead/{seconds}` moves.
pub const ACCELERATED: &str = "session-refresh-accelerated";
/// The peers, which are compared on Redis.
pub const PEERS: [&str; 3] = ["actix-session", "axum_session", "pavex_session"];
/// Those whose writes a day can show. Pavex' sessions go by the real clock, by which that day takes minutes.
pub const PEERS_OF_A_DAY: [&str; 2] = ["actix-session", "axum_session"];
/// The stores.
pub const STORES: [&str; 3] = ["redis", "postgres", "sqlite"];

/// The URL of a server that a store needs.
///
/// # Panics
/// If the environment does not say.
#[must_use]
pub fn url(variable: &str) -> String {
    std::env::var(variable).unwrap_or_else(|_| panic!("{variable} says where the server is"))
}

/// Where the results of a name are.
#[must_use]
pub fn results(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/results")).join(name)
}
