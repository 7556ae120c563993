//! `#[debug_handler]` below names the router's state.

use axum::{debug_handler, extract::State};
use session_refresh::{SessionUser, session_refresh};

#[derive(Clone)]
struct AppState;

struct User;

impl SessionUser for User {}

#[session_refresh(user = User)]
#[debug_handler]
async fn handler(_: State<AppState>) {}

#[session_refresh(user = User)]
#[debug_handler(state = AppState)]
async fn named() {}

fn main() {}
