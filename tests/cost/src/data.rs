//! What a session holds.

use std::collections::HashMap;

use serde_json::{Value, json};

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
