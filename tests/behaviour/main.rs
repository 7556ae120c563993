//! Behaviour over real HTTP.
//!
//! Start with `ancestor`, what django-session-refresh does, and `commit`, what a request may do to its session.

// Handlers are async, whether they wait for something or not.
#![allow(clippy::unused_async)]

use session_refresh_tests::Counts;

/// Runs each function, `async fn name<S: SessionStore + Clone>(store: S)`, on plain stores in memory and in SQLite.
macro_rules! on_each_store {
    ($($name:ident),* $(,)?) => {$(
        mod $name {
            use session_refresh_tests::backends::{Backend as _, Memory, Sqlite};

            #[tokio::test]
            async fn on_memory() {
                let memory = Memory::connect().await.expect("memory is there");
                super::$name(memory.plain()).await;
            }

            #[tokio::test]
            async fn on_sqlite() {
                let sqlite = Sqlite::connect().await.expect("a file can be made");
                super::$name(sqlite.plain()).await;
            }
        }
    )*};
}

/// Nothing was asked of the store but these loads.
const fn only_loads(loads: usize) -> Counts {
    Counts {
        creates: 0,
        loads,
        saves: 0,
        touches: 0,
        deletes: 0,
    }
}

mod ancestor;
mod axum_login;
mod commit;
mod cookie;
mod counts;
mod events;
mod failures;
mod groups;
mod handlers;
mod layer;
mod metrics;
mod misuse;
mod never;
mod races;
mod releases;
mod routers;
mod stamp;
mod stores;
