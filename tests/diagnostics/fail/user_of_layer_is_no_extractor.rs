//! The same mistake in the layer.

use session_refresh::{RefreshLayer, SessionUser};

struct User;

impl SessionUser for User {}

fn main() {
    let _ = RefreshLayer::new().user::<User>();
}
