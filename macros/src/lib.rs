//! The attribute of [`session-refresh`](https://docs.rs/session-refresh), documented where users meet it: on its
//! re-export `session_refresh::session_refresh`.

mod args;
mod expand;
mod handler;
#[cfg(test)]
mod tests;

use proc_macro::TokenStream;

#[allow(missing_docs)] // Documented on the re-export, where doctests can see the runtime.
#[proc_macro_attribute]
pub fn session_refresh(args: TokenStream, item: TokenStream) -> TokenStream {
    expand::expand(args.into(), &item.into()).into()
}
