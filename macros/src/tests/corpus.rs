//! What two runs of the fuzzers (`fuzz` beside this folder) found interesting: a sample of the inputs that reached new
//! code, replayed.

use quote::quote;

#[test]
fn what_the_fuzzer_gave_the_attribute_is_read_without_a_panic() {
    let handler = quote!(
        async fn handler() {}
    );
    let mut read = 0;
    for line in include_str!("corpus/options.txt").lines() {
        if let Ok(tokens) = line.parse::<proc_macro2::TokenStream>() {
            let expansion = crate::expand::expand(tokens.clone(), &handler);
            assert!(expansion.to_string().contains("fn handler"), "{line}");
            crate::expand::expand(quote!(interval = "1h"), &tokens);
            read += 1;
        }
    }
    assert!(read > 50, "{read}");
}

#[test]
fn what_the_fuzzer_gave_as_a_duration_is_accepted_or_explained() {
    for line in include_str!("corpus/duration.txt").lines() {
        let mistakes = crate::args::Mistakes::default();
        let text = proc_macro2::Literal::string(line);
        let args = crate::args::Args::parse(quote!(interval = #text), &mistakes);
        match args.interval {
            Some(crate::args::Interval::Known(duration, _)) => {
                assert!(!duration.is_zero(), "{line}");
            }
            _ => assert!(mistakes.into_compile_errors().is_some(), "{line}"),
        }
    }
}
