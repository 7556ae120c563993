//! Any tokens as the attribute's options and as the function under it: no panic, no endless loop.
//!
//! `cargo fuzz run options --sanitizer none` in `macros`, on a stable toolchain with `RUSTC_BOOTSTRAP=1`.

#![no_main]

#[path = "../../src/args.rs"]
mod args;
#[path = "../../src/expand.rs"]
mod expand;
#[path = "../../src/handler.rs"]
mod handler;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: (&str, bool)| {
    let (text, on_a_handler) = data;
    let Ok(tokens) = text.parse::<proc_macro2::TokenStream>() else { return };
    let handler = quote::quote!(async fn handler() {});
    if on_a_handler {
        expand::expand(tokens, &handler);
    } else {
        expand::expand(quote::quote!(interval = "1h"), &tokens);
    }
});
