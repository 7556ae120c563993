//! Applications that a newcomer runs, from the workspace's root:
//!
//! - `cargo run --example quickstart`: the smallest application, one annotated route over a session in memory.
//! - `cargo run --example demo`: three ways to keep sessions alive, side by side; then accounts, roles, a cart and a page per
//!   policy, on axum-login and SQLite.
//! - `cargo run --example metrics`: numbers for Prometheus.
//! - `readme`: what the README shows.
