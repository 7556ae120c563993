//! What the pages' script asks every few seconds. The route is passive: a page left open keeps nobody logged in.

use axum::Json;
use serde::Serialize;
use session_refresh::{RefreshInfo, session_refresh};
use time::OffsetDateTime;
use tower_sessions::Session;

use crate::{cart::Cart, failure::Failure, login::AuthSession};

#[derive(Serialize)]
pub struct Status {
    /// Seconds rather than a time: the browser's clock may be wrong. `None` if the session has ended.
    seconds_left: Option<f64>,
    cart: u32,
}

#[session_refresh(passive)]
pub async fn status(
    refresh: RefreshInfo,
    auth: AuthSession,
    session: Session,
) -> Result<Json<Status>, Failure> {
    let end = refresh.expires_at.filter(|_| auth.user.is_some());
    let seconds_left = end.map(|end| (end - OffsetDateTime::now_utc()).as_seconds_f64().max(0.0));
    let cart = match seconds_left {
        Some(_) => Cart::of(&session).await?.count(),
        None => 0,
    };
    Ok(Json(Status { seconds_left, cart }))
}
