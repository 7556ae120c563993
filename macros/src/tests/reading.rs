//! What is read from the attribute and from the item.

use std::time::Duration;

use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};

use super::{messages, mistakes};
use crate::args::{Args, Interval, Mistakes};

const HANDLER: &str = "async fn handler() {}";

fn interval(args: &str) -> Duration {
    let none = Mistakes::default();
    let args = Args::parse(args.parse().expect("tokens"), &none);
    assert!(none.into_compile_errors().is_none());
    match args.interval {
        Some(Interval::Known(interval, _)) => interval,
        _ => panic!("no known interval"),
    }
}

#[test]
fn an_interval_is_a_text_or_seconds() {
    for (written, seconds) in [
        (r#""24h""#, 86_400),
        (r#"" 1day 2h ""#, 93_600),
        (r##"r#"5min"#"##, 300),
        ("3600", 3600),
        ("1_000u64", 1000),
        ("0x10", 16),
        ("9_223_372_036_854_775_807", i64::MAX.unsigned_abs()),
        (r#""9223372036854775807s""#, i64::MAX.unsigned_abs()),
    ] {
        assert_eq!(
            interval(&format!("interval = {written}")),
            Duration::from_secs(seconds),
            "{written}"
        );
    }
    assert_eq!(interval(r#"interval = "1ms""#), Duration::from_millis(1));
}

#[test]
fn what_is_no_interval_is_told_why() {
    for (written, reason) in [
        (r#""""#, "an interval can't be empty"),
        (r#"" -1h""#, "an interval can't be negative"),
        ("-1", "an interval can't be negative"),
        (r#""1.5h""#, "an interval can't have a fraction"),
        ("0.5", "an interval can't have a fraction"),
        (r#""24""#, "`24` has no unit"),
        (r#""24 fortnights""#, "unknown unit `fortnights`"),
        (r#""2 hours min""#, "expected a number before `min`"),
        (r#""1h, 5min""#, "`,` can't be part of an interval"),
        (r#""1h – 5min""#, "expected a number before `– 5min`"),
        ("24h", "a duration with a unit is a string"),
        (r#""0s""#, "an interval can't be zero"),
        (r#""0""#, "an interval can't be zero"),
        ("0", "an interval can't be zero"),
        (r#""999us""#, "an interval is a millisecond or longer"),
        ("9_223_372_036_854_775_808", "interval out of range"),
        (r#""9223372036854775808s""#, "interval out of range"),
        (r#""999999999999 years""#, "interval out of range"),
    ] {
        assert_eq!(
            mistakes(&format!("interval = {written}"), HANDLER),
            [reason],
            "{written}"
        );
    }
    assert!(mistakes("interval = 'h'", HANDLER)[0].starts_with("expected a duration"));
}

#[test]
fn an_option_without_its_value_is_told_what_it_takes() {
    for (args, message) in [
        ("interval", "`interval` needs a value"),
        ("interval, skip_staff", "`interval` needs a value"),
        ("interval =", "`interval` needs a value"),
        ("interval =, skip_staff", "`interval` needs a value"),
        (r#"interval("24h"), skip_staff"#, "`interval` needs a value"),
        (r#"interval "24h""#, "`interval` needs a value"),
        ("skip_paths", "`skip_paths` needs a list of path prefixes"),
        (
            r#"skip_paths = "/""#,
            "`skip_paths` needs a list of path prefixes",
        ),
        ("skip_staff =", "`skip_staff` is a flag"),
        ("skip_staff =, skip_superuser", "`skip_staff` is a flag"),
        ("skip_staff(true)", "`skip_staff` is a flag"),
        ("key = KEY", "expected a string literal"),
        (
            r#"policy = "SENSITIVE""#,
            "expected a constant of type `Policy`",
        ),
    ] {
        assert_eq!(mistakes(args, HANDLER), [message], "{args}");
    }
}

#[test]
fn what_only_the_compiler_can_evaluate_is_left_to_it() {
    for args in [
        "interval = -HOUR",
        "interval = f()",
        "policy = f()",
        "skip_if = <A as B>::c",
    ] {
        assert!(mistakes(args, HANDLER).is_empty(), "{args}");
    }
}

#[test]
fn a_literal_alone_is_taken_for_an_interval() {
    for (literal, help) in [
        (r#""24h""#, "\n\nhelp: write `interval = \"24h\"`"),
        ("3600", "\n\nhelp: write `interval = 3600`"),
        ("true", ""),
    ] {
        assert_eq!(
            messages(super::expand(literal, HANDLER)),
            [format!("expected an option, found a literal{help}")]
        );
    }
}

#[test]
fn a_constant_is_evaluated_even_unrouted_unless_it_names_a_parameter() {
    let is_item = |args: &str, item: &str| {
        let expansion = super::expand(args, item).to_string();
        expansion.contains("const __SESSION_REFRESH : ")
    };
    let generic = "async fn a<T, const N: i64>() {}";
    assert!(is_item("interval = hours(M)", HANDLER));
    assert!(is_item("interval = hours(M)", generic));
    assert!(is_item("policy = f()", generic));
    assert!(!is_item("interval = hours(N)", generic));
    assert!(!is_item("interval = T::HOURS", generic));
    // Evaluated where it is written.
    assert!(!is_item("policy = SENSITIVE", HANDLER));
    assert!(!is_item(r#"interval = "1h""#, HANDLER));
}

#[test]
fn commas_may_trail_and_must_not_lack() {
    for args in ["", "skip_staff,", r#"skip_paths("/a", "/b",), key = "k","#] {
        assert!(mistakes(args, HANDLER).is_empty(), "{args}");
    }
    assert_eq!(
        mistakes("skip_staff skip_superuser", HANDLER),
        ["expected `,`"]
    );
    assert_eq!(
        mistakes("skip_staff skip_supruser", HANDLER),
        ["expected `,`", "unknown option `skip_supruser`"]
    );
    assert_eq!(
        mistakes(r#"skip_paths("/a" "/b")"#, HANDLER),
        ["expected `,`"]
    );
    assert_eq!(
        mistakes(", skip_staff", HANDLER),
        ["expected an option such as `interval`"]
    );
}

#[test]
fn each_option_is_checked_though_others_are_wrong() {
    assert_eq!(
        mistakes(
            r#"skip_staf, interval, key = "", skip_paths("a", 1, ""), skip_if = || true, skip_superuser = "x", skip_superuser"#,
            "fn handler(#[cfg(test)] _: Uri) {}",
        ),
        [
            "unknown option `skip_staf`",
            "`interval` needs a value",
            "a session key can't be empty",
            "a path prefix begins with `/`",
            "expected a list of path prefixes",
            "a path prefix can't be empty",
            "expected the path of a `fn(&http::request::Parts) -> bool`",
            "`skip_superuser` is a flag",
            "duplicate option `skip_superuser`",
            "a handler is an `async fn` or returns a future",
            "an argument of a handler can't be conditional",
        ]
    );
}

#[test]
fn only_a_near_option_is_suggested() {
    for (written, help) in [
        ("intervall", "did you mean `interval`?"),
        ("skip_path", "did you mean `skip_paths`?"),
        ("skip_supervisor", "did you mean `skip_superuser`?"),
        ("usr", "did you mean `user`?"),
        ("every", "options are `interval`, `passive`, `skip_staff`"),
    ] {
        let message = messages(super::expand(written, HANDLER)).concat();
        assert!(message.contains(&format!("\n\nhelp: {help}")), "{message}");
    }
}

#[test]
fn the_item_remains_whatever_is_wrong() {
    for (args, item) in [
        ("x", HANDLER),
        ("", "struct Handler ;"),
        ("", "async fn handler (self) { ? ? }"),
    ] {
        let expansion = super::expand(args, item).to_string();
        let item: proc_macro2::TokenStream = item.parse().expect("tokens");
        assert!(expansion.ends_with(&item.to_string()), "{expansion}");
    }
}

#[test]
fn a_body_is_not_read() {
    assert!(
        mistakes(
            "",
            "async fn handler() -> String { let = ; self. ) ( }"
                .replace(") (", "")
                .as_str()
        )
        .is_empty()
    );
}

#[test]
fn only_a_free_function_is_a_handler() {
    for (item, found) in [
        ("pub struct A;", "a struct"),
        ("#[a] pub(crate) enum A {}", "an enum"),
        ("union A { a: u8 }", "a union"),
        ("unsafe impl A { fn a() {} }", "an `impl`"),
        ("pub unsafe trait A { fn a(); }", "a trait"),
        ("mod a { fn a() {} }", "a module"),
        ("pub type A = fn();", "a type alias"),
        ("use a::b;", "an import"),
        ("const A: fn() = a;", "a constant"),
        ("static A: fn() = a;", "a static"),
        ("extern \"C\" { fn a(); }", "an `extern` block"),
        ("let a = 1;", "a statement"),
        ("|| async {}", "a closure"),
        ("async move |a| {}", "a closure"),
        ("macro_rules! a { () => {} }", "a macro"),
    ] {
        assert_eq!(
            mistakes("", item),
            [format!("expected a handler function, found {found}")],
            "{item}"
        );
    }
    for item in [
        "pub(in a::b) async fn a() {}",
        "fn a() -> B {}",
        "#[a(fn)] async fn a() {}",
    ] {
        assert!(mistakes("", item).is_empty(), "{item}");
    }
}

#[test]
fn a_body_that_an_editor_holds_back_is_a_body() {
    let expansion = super::expand(
        "",
        "async fn page(refresh: RefreshInfo) -> String __ra_fixup",
    );
    assert!(messages(expansion.clone()).is_empty(), "{expansion}");
    assert!(expansion.to_string().contains("__ra_fixup"));
}

#[test]
fn an_option_that_is_only_begun_is_completed() {
    for (option, help) in [
        ("skip_s", "did you mean `skip_staff` or `skip_superuser`?"),
        ("inter", "did you mean `interval`?"),
        ("pollicy", "did you mean `policy`?"),
        ("skip_stuff", "did you mean `skip_staff`?"),
    ] {
        let messages = messages(super::expand(option, "async fn a() {}"));
        let [message] = messages.as_slice() else {
            panic!("{option}: {messages:?}");
        };
        assert!(message.ends_with(help), "{message}");
    }
}

#[test]
fn one_mistake_in_the_head_is_one_error() {
    for (item, message) in [
        ("const fn a() {}", "a handler can't be `const`"),
        ("async unsafe fn a() {}", "a handler can't be `unsafe`"),
        ("extern fn a() {}", "a handler can't be `extern`"),
        ("pub unsafe fn a() -> B {}", "a handler can't be `unsafe`"),
        (
            "async fn a(&self) -> Self {}",
            "a handler can't take `self`",
        ),
        (
            "async fn a(b: Vec<(Self,)>) {}",
            "a handler can't be an associated function",
        ),
        (
            "async fn a() -> Self {}",
            "a handler can't be an associated function",
        ),
        ("async fn a();", "a handler needs a body"),
        (
            "fn a() {}",
            "a handler is an `async fn` or returns a future",
        ),
        (
            "#[session_refresh] async fn a() {}",
            "a second `#[session_refresh]` on one handler",
        ),
        (
            "#[x::session_refresh(b)] async fn a() {}",
            "a second `#[session_refresh]` on one handler",
        ),
        (
            "#[utoipa::path(get)] async fn a() {}",
            "`#[utoipa::path]` has no effect below `#[session_refresh]`",
        ),
        (
            "#[::utoipa::path] async fn a() {}",
            "`#[utoipa::path]` has no effect below `#[session_refresh]`",
        ),
        (
            "async fn a(#[cfg_attr(a, b)] b: B) {}",
            "an argument of a handler can't be conditional",
        ),
    ] {
        assert_eq!(mistakes("", item), [message], "{item}");
    }
    for output in ["()", "&'static str", "(A, B)", "[u8; 1]"] {
        assert_eq!(
            mistakes("", &format!("fn a() -> {output} {{}}")),
            ["a handler is an `async fn` or returns a future"]
        );
    }
    assert!(mistakes("", "fn a() -> &'static mut F {}").is_empty());
    assert!(mistakes("", "#[path] #[a::path] #[utoipa::other] async fn a() {}").is_empty());
}

#[test]
fn an_item_from_a_macro_comes_in_an_invisible_group() {
    let handler = |delimiter| {
        let item = Group::new(delimiter, HANDLER.parse().expect("tokens"));
        let item = TokenTree::Group(item).into();
        messages(crate::expand::expand(TokenStream::new(), &item))
    };
    assert!(handler(Delimiter::None).is_empty());
    assert_eq!(handler(Delimiter::Brace).len(), 1);
}

#[test]
fn sixteen_arguments_are_not_too_many() {
    let handler = |count| format!("async fn a({}) {{}}", "_: B,".repeat(count));
    assert!(mistakes("", &handler(16)).is_empty());
    assert_eq!(
        mistakes("", &handler(17)),
        ["a handler takes at most 16 arguments"]
    );
}
