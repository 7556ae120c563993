//! What the pages' script asks every few seconds. Not annotated: a page left open keeps nobody logged in.

use axum::{Json, extract::State};
use serde::Serialize;
use time::OffsetDateTime;
use tower_sessions::Session;

use crate::{app::App, cart::Cart, failure::Failure, login::AuthSession};

#[derive(Serialize)]
pub struct Status {
    /// Seconds rather than a time: the browser's clock may be wrong. `None` if the session has ended.
    seconds_left: Option<f64>,
    cart: u32,
}

pub async fn status(
    State(app): State<App>,
    auth: AuthSession,
    session: Session,
) -> Result<Json<Status>, Failure> {
    // Only the store knows when a session ends: `Session::expiry_date` tells when it would, were it written now.
    let record = match session.id() {
        Some(id) if auth.user.is_some() => app.sessions.load(&id).await?,
        _ => None,
    };
    let seconds_left = record.map(|record| {
        let left = record.expiry_date - OffsetDateTime::now_utc();
        left.as_seconds_f64().max(0.0)
    });
    let cart = match seconds_left {
        Some(_) => Cart::of(&session).await?.count(),
        None => 0,
    };
    Ok(Json(Status { seconds_left, cart }))
}
