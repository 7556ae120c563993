//! What the compiler says: one fixture, one mistake. `README.md` beside this file says what a good message is.

use std::{path::Path, process::Command};

#[test]
fn mistakes_are_explained_at_the_right_place() {
    let fixtures = trybuild::TestCases::new();
    fixtures.compile_fail("diagnostics/fail/*.rs");
    if quotes_std() {
        eprintln!(
            "skipped: rust-src is installed, so messages that pass through `std` read otherwise"
        );
    } else {
        fixtures.compile_fail("diagnostics/fail_in_std/*.rs");
    }
    fixtures.pass("diagnostics/pass/*.rs");
}

/// Whether the compiler finds the standard library's sources, and so quotes them. Editors install them.
fn quotes_std() -> bool {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let printed = Command::new(rustc).args(["--print", "sysroot"]).output();
    let sysroot = printed.expect("the compiler runs").stdout;
    let sysroot = String::from_utf8(sysroot).expect("its path is text");
    let sources = Path::new(sysroot.trim()).join("lib/rustlib/src/rust/library");
    sources.is_dir()
}
