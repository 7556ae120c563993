//! A cache inside would go on serving the expiry of before the touch.

use session_refresh::store::RefreshStore;
use tower_sessions::{CachingSessionStore, MemoryStore};

fn main() {
    let cached = CachingSessionStore::new(MemoryStore::default(), MemoryStore::default());
    RefreshStore::new(cached);
}
