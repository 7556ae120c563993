//! Any text as an interval: no panic, and what is accepted is longer than zero.
//!
//! `cargo fuzz run duration --sanitizer none` in `macros`, on a stable toolchain with `RUSTC_BOOTSTRAP=1`.

#![no_main]

#[allow(dead_code)]
#[path = "../../src/args.rs"]
mod args;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let mistakes = args::Mistakes::default();
    let interval = proc_macro2::Literal::string(text);
    let args = args::Args::parse(quote::quote!(interval = #interval), &mistakes);
    match args.interval {
        Some(args::Interval::Known(duration, _)) => assert!(!duration.is_zero()),
        _ => assert!(mistakes.into_compile_errors().is_some()),
    }
});
