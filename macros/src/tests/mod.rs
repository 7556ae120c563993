//! What needs no compiler to be seen. How the compiler reports it: `tests/diagnostics` beside this crate.

mod arbitrary;
mod corpus;
mod expansion;
mod reading;

use proc_macro2::TokenStream;

/// The expansion's tokens.
fn expand(args: &str, item: &str) -> TokenStream {
    crate::expand::expand(
        args.parse().expect("tokens of the arguments"),
        &item.parse().expect("tokens of the item"),
    )
}

/// What is reported, each mistake without its help.
fn mistakes(args: &str, item: &str) -> Vec<String> {
    messages(expand(args, item))
        .into_iter()
        .map(|message| message.split("\n\n").next().unwrap_or_default().to_owned())
        .collect()
}

/// The texts of all `compile_error!`s.
fn messages(expansion: TokenStream) -> Vec<String> {
    let tokens: Vec<_> = expansion.into_iter().collect();
    tokens
        .windows(3)
        .filter(|window| window[0].to_string() == "compile_error" && window[1].to_string() == "!")
        .filter_map(|window| match &window[2] {
            proc_macro2::TokenTree::Group(group) => syn::parse2::<syn::LitStr>(group.stream()).ok(),
            _ => None,
        })
        .map(|text| text.value())
        .collect()
}
