//! `#[debug_handler]` below names the router's state.

use axum::debug_handler;
use session_refresh::{SessionUser, session_refresh};

#[derive(Clone)]
struct AppState;

struct User;

impl SessionUser for User {}

#[session_refresh(user = User)]
#[debug_handler(state = AppState)]
async fn handler() {}

fn main() {}
