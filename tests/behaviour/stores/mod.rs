//! The stores that can touch, each test on every store.

use axum::BoxError;
use session_refresh::store::{SessionId, Touch, Touched};
use time::OffsetDateTime;

mod bytes;
mod conformance;
mod faults;
mod locks;
mod outages;
mod processes;
mod races;
mod redis;
mod secrets;
mod serialized;
mod sql;

/// Touches a session, whenever it ends by then.
async fn extend(
    store: &impl Touch,
    id: impl Into<SessionId>,
    expiry: OffsetDateTime,
) -> Result<Touched, BoxError> {
    let due = OffsetDateTime::UNIX_EPOCH..=expiry;
    store.touch(id.into(), due, expiry).await
}
