//! What both kinds of tests have in common: how many cases are tried, and on which stores.

use std::{env, fs, str::FromStr, sync::LazyLock};

use proptest::{
    strategy::Strategy,
    test_runner::{Config, TestRunner},
};
use session_refresh_tests::backends::Backend;
use tokio::runtime::{Builder, Runtime};

pub static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    let runtime = Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    runtime.expect("threads can be started")
});

/// Runs a function `fn name<B: Backend>()` on every store.
macro_rules! on_every_store {
    ($name:ident) => {
        $crate::machine::on_every_store!(
            @ $name: memory Memory, sqlite Sqlite, postgres Postgres, mysql MySql, redis Redis, redis_rs RedisRs
        );
    };
    (@ $name:ident: $($store:ident $backend:ident),*) => {$(
        session_refresh_tests::on_backend! { $store
            #[test]
            fn $store() {
                $name::<session_refresh_tests::backends::$backend>();
            }
        }
    )*};
}
pub(crate) use on_every_store;

/// A number that a variable sets.
pub fn setting<T: FromStr>(name: &str, default: T) -> T {
    env::var(name).map_or(default, |value| {
        value
            .parse()
            .ok()
            .unwrap_or_else(|| panic!("{name} is a number, not {value}"))
    })
}

/// How much memory a process has, in kilobytes.
pub fn memory(process: u32) -> usize {
    let status = fs::read_to_string(format!("/proc/{process}/status"));
    let status = status.unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().split(' ').next()?.parse().ok())
        .unwrap_or(0)
}

/// Tries `MACHINE_CASES` cases, 24 if nothing is said, and has a failure shrunk.
pub fn run<B: Backend, S: Strategy>(cases: &S, test: impl Fn(B, S::Value)) {
    let backend = RUNTIME.block_on(B::connect());
    let config = Config {
        cases: setting("MACHINE_CASES", 24),
        failure_persistence: None,
        ..Config::default()
    };
    let ran = TestRunner::new(config).run(cases, |case| {
        test(backend.clone(), case);
        Ok(())
    });
    if let Err(difference) = ran {
        panic!("{difference}");
    }
}
