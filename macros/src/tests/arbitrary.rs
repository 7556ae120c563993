//! Whatever is thrown at the attribute: it answers, and never panics.

use std::iter;

use proc_macro2::{Delimiter, Group, Ident, Literal, Punct, Spacing, Span, TokenStream, TokenTree};
use proptest::prelude::*;

use crate::args::OPTIONS;

fn token() -> impl Strategy<Value = TokenTree> {
    let ident = |name: &str| TokenTree::Ident(Ident::new(name, Span::call_site()));
    let options: Vec<_> = OPTIONS
        .into_iter()
        .chain([
            "true", "async", "fn", "self", "Self", "struct", "impl", "const", "pub", "unsafe",
            "extern", "dyn", "for", "x",
        ])
        .collect();
    let leaf = prop_oneof![
        6 => prop::sample::select(options).prop_map(ident),
        3 => prop::sample::select(r"=,,,:<>#!&|-+.;?'".chars().collect::<Vec<_>>())
            .prop_flat_map(|punct| any::<bool>().prop_map(move |joint| {
                let spacing = if joint { Spacing::Joint } else { Spacing::Alone };
                Punct::new(punct, spacing).into()
            })),
        2 => prop_oneof!["\\PC*", durations()].prop_map(|text| Literal::string(&text).into()),
        2 => any::<u128>().prop_map(|number| Literal::u128_unsuffixed(number).into()),
        1 => any::<i32>().prop_map(|number| Literal::i32_suffixed(number.saturating_abs()).into()),
        1 => (0.0..1e300).prop_map(|number| Literal::f64_unsuffixed(number).into()),
        1 => any::<Vec<u8>>().prop_map(|bytes| Literal::byte_string(&bytes).into()),
    ];
    leaf.prop_recursive(4, 32, 6, |inner| {
        let delimiter = prop::sample::select(vec![
            Delimiter::Parenthesis,
            Delimiter::Brace,
            Delimiter::Bracket,
            Delimiter::None,
        ]);
        (delimiter, prop::collection::vec(inner, 0..6)).prop_map(|(delimiter, tokens)| {
            Group::new(delimiter, tokens.into_iter().collect()).into()
        })
    })
}

fn tokens() -> impl Strategy<Value = TokenStream> {
    prop::collection::vec(token(), 0..24).prop_map(|tokens| tokens.into_iter().collect())
}

/// Nearly right.
fn durations() -> impl Strategy<Value = String> {
    r"([-+ .,]?[0-9]{0,24} ?(ns|us|µs|ms|s|sec|min|m|h|d|days|w|M|y|years|é|x)? ?){0,4}"
}

fn handler() -> TokenStream {
    "async fn handler(first: A) {}".parse().expect("tokens")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_arguments_are_too_odd(args in tokens()) {
        let expansion = crate::expand::expand(args, &handler());
        prop_assert!(expansion.to_string().contains("fn handler"));
    }

    #[test]
    fn no_value_is_too_odd(option in prop::sample::select(OPTIONS.to_vec()), value in tokens()) {
        let option = TokenTree::Ident(Ident::new(option, Span::call_site()));
        let equals = TokenTree::Punct(Punct::new('=', Spacing::Alone));
        let args = [option, equals].into_iter().chain(value).collect();
        let expansion = crate::expand::expand(args, &handler());
        prop_assert!(expansion.to_string().contains("fn handler"));
    }

    #[test]
    fn no_item_is_too_odd(head in tokens(), body in tokens()) {
        let body = TokenTree::Group(Group::new(Delimiter::Brace, body));
        let item: TokenStream = head.into_iter().chain(iter::once(body)).collect();
        crate::expand::expand(TokenStream::new(), &item);
    }

    #[test]
    fn no_signature_is_too_odd(inputs in tokens(), output in tokens()) {
        let inputs = TokenTree::Group(Group::new(Delimiter::Parenthesis, inputs));
        let start: TokenStream = "async fn handler".parse().expect("tokens");
        let arrow: TokenStream = "->".parse().expect("tokens");
        let body: TokenStream = "{}".parse().expect("tokens");
        let item = start.into_iter().chain([inputs]).chain(arrow).chain(output).chain(body).collect();
        crate::expand::expand(TokenStream::new(), &item);
    }

    #[test]
    fn no_duration_is_too_odd(text in prop_oneof!["\\PC*", any::<String>(), durations()]) {
        let args = "interval =".parse::<TokenStream>().expect("tokens");
        let text = TokenTree::Literal(Literal::string(&text));
        let args = args.into_iter().chain([text]).collect();
        let expansion = crate::expand::expand(args, &handler());
        let mistakes = super::messages(expansion.clone()).len();
        prop_assert!(mistakes == usize::from(!expansion.to_string().contains("RefreshPolicy")));
    }
}
