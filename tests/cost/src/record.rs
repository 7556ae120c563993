//! Sessions of a given size.

use std::collections::HashMap;

use serde_json::{Value, json};
use time::OffsetDateTime;
use tower_sessions::session::{Id, Record};

/// A visitor's name and shopping cart, of at least so many bytes of JSON, and not much more.
#[must_use]
pub fn data(bytes: usize) -> HashMap<String, Value> {
    let mut data = HashMap::from([("name".to_owned(), json!("Ada Lovelace"))]);
    let mut items = Vec::new();
    let mut length = 40;
    while length < bytes {
        let number = items.len();
        let item = json!({
            "title": format!("Notes on the Analytical Engine, volume {number}"),
            "cents": 1999 + number,
            "pieces": 1 + number % 3,
            "gift": number % 5 == 0,
        });
        length += item.to_string().len() + 1;
        items.push(item);
    }
    data.insert("cart".to_owned(), Value::Array(items));
    data
}

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
