//! Sessions of a given size.

use serde_json::{Value, json};
use time::OffsetDateTime;
use tower_sessions::session::{Id, Record};

use crate::data::data;

/// A session of that size that ends at a given time.
#[must_use]
pub fn record(bytes: usize, expiry_date: OffsetDateTime) -> Record {
    Record {
        id: Id::default(),
        data: data(bytes),
        expiry_date,
    }
}

/// When a session was refreshed, as the page by hand and the attribute on a plain store keep it.
#[must_use]
pub fn stamps(refreshed_at: OffsetDateTime) -> [(String, Value); 2] {
    let seconds = refreshed_at.unix_timestamp();
    [
        ("refreshed_at".to_owned(), json!(seconds)),
        (
            "session_refresh.refreshed_at".to_owned(),
            json!((seconds * 1000).to_string()),
        ),
    ]
}
