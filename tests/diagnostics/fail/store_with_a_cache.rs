//! A cache inside would go on serving the expiry of before the touch.

use session_refresh::LifetimeLayer;
use tower_sessions::{CachingSessionStore, MemoryStore, SessionManagerLayer};

fn main() {
    let cached = CachingSessionStore::new(MemoryStore::default(), MemoryStore::default());
    LifetimeLayer::new(cached, |store| SessionManagerLayer::new(store));
}
