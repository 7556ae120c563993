//! Behaviour over real HTTP.
//!
//! Start with `ancestor`, what django-session-refresh does, and `activity`, what keeps a session alive. `touching` has what
//! holds under a `LifetimeLayer`, `stamping` what holds with tower-sessions' layer alone.

// Handlers are async, whether they wait for something or not.
#![allow(clippy::unused_async)]

use session_refresh_tests::Counts;

/// Runs each function, `async fn name<K: Sessions>(sessions: K)`, with tower-sessions' layer alone, on stores in memory and
/// in SQLite.
macro_rules! on_plain_stores {
    ($($name:ident),* $(,)?) => {$(
        mod $name {
            use session_refresh_tests::{Plain, backends::{Backend as _, Memory, Sqlite}};

            #[tokio::test]
            async fn on_memory() {
                let memory = Memory::connect().await;
                super::$name(Plain(memory.plain())).await;
            }

            #[tokio::test]
            async fn on_sqlite() {
                let sqlite = Sqlite::connect().await;
                super::$name(Plain(sqlite.plain())).await;
            }
        }
    )*};
}

/// Runs each function, `async fn name<K: Sessions>(sessions: K)`, under a `LifetimeLayer` on every store.
macro_rules! on_touching_stores {
    ($($name:ident),* $(,)?) => {
        $(on_touching_stores!(@each $name: memory Memory, sqlite Sqlite, postgres Postgres, mysql MySql, redis Redis, redis_rs RedisRs);)*
    };
    (@each $name:ident: $($store:ident $backend:ident),*) => {
        mod $name {$(
            session_refresh_tests::on_backend! { $store
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $store() {
                    use session_refresh_tests::{Owned, backends::{$backend, Backend as _}};
                    super::$name(Owned($backend::connect().await.touching())).await;
                }
            }
        )*}
    };
}

/// Runs each function, `async fn name<K: Sessions>(sessions: K)`, with either layer: a fact that holds with both.
macro_rules! on_either_layer {
    ($($name:ident),* $(,)?) => {
        mod plain {
            $(use super::$name;)*
            on_plain_stores![$($name),*];
        }
        mod owned {
            $(use super::$name;)*
            on_touching_stores![$($name),*];
        }
    };
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

/// Whether two durations are the same but for what a test takes.
fn about(duration: time::Duration, expected: time::Duration) -> bool {
    (duration - expected).abs() < time::Duration::minutes(1)
}

/// A time without what is finer than a millisecond, which not every store keeps.
fn whole_millis(time: time::OffsetDateTime) -> time::OffsetDateTime {
    let nanoseconds = u32::from(time.millisecond()) * 1_000_000;
    time.replace_nanosecond(nanoseconds)
        .expect("fewer than a second has")
}

mod activity;
mod advice;
mod ancestor;
mod axum_login;
mod caches;
mod cancellation;
mod cookie;
mod counts;
mod events;
mod failures;
mod groups;
mod handlers;
mod house;
mod keep_alive;
mod layer;
mod lifetimes;
mod metrics;
mod misuse;
mod nesting;
mod never;
mod races;
mod releases;
mod routers;
mod snippets;
mod sockets;
mod stamp;
mod stamping;
mod stores;
mod touching;
