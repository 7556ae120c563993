//! This file tells whether a shared cache may keep a response, and forbids shared caches to keep it.
//!
//! A session cookie must never come from a cache, so whatever is unclear here counts as "a shared cache may keep it".

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{CACHE_CONTROL, EXPIRES, GetAll},
};

/// Whether a shared cache may keep the response because a header allows it to, and so serve it, cookie included, to
/// somebody else: RFC 9111 §7.3 says that `Set-Cookie` does not prevent it.
///
/// Different caches obey different fields, so one that allows it is enough.
pub(crate) fn may_be_shared(headers: &HeaderMap, now: SystemTime) -> bool {
    standard_fields_keep(headers, now).unwrap_or(true)
        || headers
            .keys()
            .any(|name| other_field_keeps(headers, name, now).unwrap_or(true))
}

/// Adds `Cache-Control: private` unless the response already says `private` or `no-store`, because a shared cache may
/// also store a response that says nothing on caching (RFC 9111 §3 and §4.2.2).
pub(crate) fn keep_private(headers: &mut HeaderMap) {
    let is_private = Directives::parse(headers.get_all(CACHE_CONTROL))
        .is_ok_and(|directives| directives.forbid_sharing());
    if !is_private {
        headers.append(CACHE_CONTROL, HeaderValue::from_static("private"));
    }
}

/// A field breaks its grammar, so that nobody knows what a cache makes of it.
struct Malformed;

/// `Cache-Control` decides whether `Expires` counts: the first of `s-maxage`, `max-age` and `Expires` is the lifetime
/// in a shared cache (RFC 9111 §4.2.1 and §5.3).
fn standard_fields_keep(headers: &HeaderMap, now: SystemTime) -> Result<bool, Malformed> {
    let directives = Directives::parse(headers.get_all(CACHE_CONTROL))?;
    if directives.forbid_sharing() {
        return Ok(false);
    }
    if directives.has("public") {
        return Ok(true);
    }
    let lifetime = directives
        .lifetime("s-maxage")
        .or_else(|| directives.lifetime("max-age"));
    match lifetime {
        Some(lifetime) => Ok(lifetime == Lifetime::PerhapsPositive),
        None => any_line(headers.get_all(EXPIRES), |text| expires_keeps(text, now)),
    }
}

/// An invalid date means the past (RFC 9111 §5.3), but only of integers is it known that every cache thinks so.
fn expires_keeps(text: &str, now: SystemTime) -> bool {
    let is_integer = is_digits(text.strip_prefix(['-', '+']).unwrap_or(text));
    !is_integer && !httpdate::parse_http_date(text).is_ok_and(|at| at <= now)
}

/// For the caches that they target, these fields replace `Cache-Control` (RFC 9213 §2.2), and so the `private` that
/// [`keep_private`] adds there.
fn other_field_keeps(
    headers: &HeaderMap,
    name: &HeaderName,
    now: SystemTime,
) -> Result<bool, Malformed> {
    let values = || headers.get_all(name);
    match name.as_str() {
        "x-accel-expires" => any_line(values(), |text| accel_expires_keeps(text, now)),
        // `Surrogate-Control` is the W3C's, `Edge-Control` Akamai's. Every CDN may have a field of its own, and by
        // convention its name ends like the last (RFC 9213 §2.4).
        "edge-control" => {
            let directives = Directives::parse(values())?;
            Ok(!directives.0.is_empty() && !directives.has_bare("no-store"))
        }
        "surrogate-control" => targeted_field_keeps(values()),
        targeted if targeted.ends_with("-cache-control") => targeted_field_keeps(values()),
        _ => Ok(false),
    }
}

/// An empty field is ignored (RFC 9213 §2.1).
fn targeted_field_keeps(values: GetAll<'_, HeaderValue>) -> Result<bool, Malformed> {
    let directives = Directives::parse(values)?;
    Ok(!directives.0.is_empty() && !directives.forbid_sharing())
}

/// nginx lets `X-Accel-Expires` override `Cache-Control`: it is a number of seconds, or `@` and a Unix time.
fn accel_expires_keeps(text: &str, now: SystemTime) -> bool {
    match text.strip_prefix('@') {
        Some(seconds) => from_unix(seconds).is_none_or(|at| at > now),
        None => !text.is_empty() && Lifetime::of(Some(text)) == Lifetime::PerhapsPositive,
    }
}

fn from_unix(seconds: &str) -> Option<SystemTime> {
    // `parse` would take a plus sign, too, which nginx does not.
    let seconds = is_digits(seconds).then(|| seconds.parse().ok())??;
    UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
}

/// How long a number of seconds lets a cache keep a response, in order of risk.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Lifetime {
    Zero,
    PerhapsPositive,
}

impl Lifetime {
    /// Only zeros are zero: a number of any size, no number, or one that can't be read may let a cache keep it.
    fn of(seconds: Option<&str>) -> Self {
        let is_zero = |text: &str| is_digits(text) && text.bytes().all(|digit| digit == b'0');
        if seconds.is_some_and(is_zero) {
            Self::Zero
        } else {
            Self::PerhapsPositive
        }
    }
}

/// A field's directives, of all its lines.
struct Directives<'a>(Vec<Directive<'a>>);

impl<'a> Directives<'a> {
    fn parse(values: GetAll<'a, HeaderValue>) -> Result<Self, Malformed> {
        let mut directives = Vec::new();
        for value in values {
            let mut rest = Some(visible(value)?);
            while let Some(list) = rest {
                let (member, after) = cut(list)?;
                rest = after;
                // A list may have empty members (RFC 9110 §5.6.1).
                if !member.trim().is_empty() {
                    directives.push(Directive::parse(member)?);
                }
            }
        }
        Ok(Self(directives))
    }

    fn named(&self, name: &str) -> impl Iterator<Item = &Directive<'a>> {
        let is_named = move |directive: &&Directive<'a>| directive.name.eq_ignore_ascii_case(name);
        self.0.iter().filter(is_named)
    }

    fn has(&self, name: &str) -> bool {
        self.named(name).next().is_some()
    }

    /// An argument limits `private` to the fields that it names (RFC 9111 §5.2.2.7), and `no-store` has none.
    fn has_bare(&self, name: &str) -> bool {
        self.named(name)
            .any(|directive| directive.argument.is_none())
    }

    /// The most restrictive of conflicting directives counts (RFC 9111 §4.2.1). Beside `must-understand`, a cache that
    /// understands the status code ignores `no-store` (§5.2.2.3).
    fn forbid_sharing(&self) -> bool {
        self.has_bare("private") || (self.has_bare("no-store") && !self.has("must-understand"))
    }

    /// RFC 9111 §4.2.1 leaves open which of several values counts, so the longest does.
    fn lifetime(&self, name: &str) -> Option<Lifetime> {
        let arguments = self.named(name).map(|directive| directive.argument);
        arguments.map(Lifetime::of).max()
    }
}

/// `name`, `name=token` or `name="string"` (RFC 9111 §5.2). A cache that reads a targeted field as a structured one would
/// allow more, such as parameters.
struct Directive<'a> {
    name: &'a str,
    argument: Option<&'a str>,
}

impl<'a> Directive<'a> {
    fn parse(member: &'a str) -> Result<Self, Malformed> {
        let (name, argument) = match member.split_once('=') {
            Some((name, argument)) => (name.trim(), Some(unquote(argument.trim())?)),
            None => (member.trim(), None),
        };
        if is_token(name) {
            Ok(Self { name, argument })
        } else {
            Err(Malformed)
        }
    }
}

/// Whether a line of the field keeps the response.
fn any_line(
    values: GetAll<'_, HeaderValue>,
    keeps: impl Fn(&str) -> bool,
) -> Result<bool, Malformed> {
    for value in values {
        if keeps(visible(value)?.trim()) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// A value is text if all of it is visible ASCII, spaces and tabs.
fn visible(value: &HeaderValue) -> Result<&str, Malformed> {
    value.to_str().map_err(|_| Malformed)
}

/// Cuts a list at the first comma that is not within a quoted string.
fn cut(list: &str) -> Result<(&str, Option<&str>), Malformed> {
    let mut at = 0;
    while let Some(found) = list[at..].find([',', '"']) {
        at += found;
        let after = &list[at + 1..];
        if list[at..].starts_with(',') {
            return Ok((&list[..at], Some(after)));
        }
        at += 1 + end_of_string(after)? + 1;
    }
    Ok((list, None))
}

/// Takes the quotes off. Escapes stay: no argument that matters here needs one.
fn unquote(argument: &str) -> Result<&str, Malformed> {
    if is_token(argument) {
        return Ok(argument);
    }
    let string = argument.strip_prefix('"').ok_or(Malformed)?;
    let end = end_of_string(string)?;
    if string.len() > end + 1 {
        return Err(Malformed);
    }
    Ok(&string[..end])
}

/// Where the closing quote is, given what follows the opening one; a backslash escapes (RFC 9110 §5.6.4).
fn end_of_string(string: &str) -> Result<usize, Malformed> {
    let mut escaped = false;
    let is_end = |byte| {
        let is_end = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        is_end
    };
    string.bytes().position(is_end).ok_or(Malformed)
}

/// RFC 9110 §5.6.2 says what a token is.
fn is_token(text: &str) -> bool {
    let is_tchar = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(is_tchar)
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The time in the tests: 2026-11-23 12:00:00 UTC.
    fn now() -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_795_435_200)
    }

    const PAST: &str = "Mon, 23 Nov 2026 11:59:59 GMT";
    const PRESENT: &str = "Mon, 23 Nov 2026 12:00:00 GMT";
    const FUTURE: &str = "Mon, 23 Nov 2026 12:00:01 GMT";

    type Fields<'a> = &'a [(&'a str, &'a str)];

    fn headers(fields: Fields<'_>) -> HeaderMap {
        let field = |(name, value): &(&str, &str)| {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            (name, HeaderValue::from_bytes(value.as_bytes()).unwrap())
        };
        let mut headers = HeaderMap::new();
        for (name, value) in fields.iter().map(field) {
            headers.append(name, value);
        }
        headers
    }

    fn keeps(fields: Fields<'_>) -> bool {
        may_be_shared(&headers(fields), now())
    }

    /// Every value alone, as the only line of the field.
    #[track_caller]
    fn assert_field(name: &str, expected: bool, values: &[&str]) {
        for value in values {
            assert_eq!(keeps(&[(name, value)]), expected, "{name}: {value}");
        }
    }

    #[track_caller]
    fn assert_fields(expected: bool, cases: &[Fields<'_>]) {
        for fields in cases {
            assert_eq!(keeps(fields), expected, "{fields:?}");
        }
    }

    #[test]
    fn a_response_that_says_nothing_on_caching_is_not_shared() {
        assert_fields(
            false,
            &[
                &[],
                &[("content-type", "text/html"), ("pragma", "public")],
                &[("x-cache-control-policy", "public")],
            ],
        );
        let silent = [
            "",
            " , ,\t",
            "no-cache, must-revalidate",
            "stale-while-revalidate=60",
            "immutable, ext, other=1, text=\"a\"",
        ];
        assert_field("cache-control", false, &silent);
    }

    #[test]
    fn private_and_no_store_count_more_than_all_else() {
        let restricted = [
            "private",
            "no-store",
            "max-age=60, PRIVATE",
            "No-Store, s-maxage=60",
            "public, no-store",
            "private, public, s-maxage=60, max-age=x",
            "\t private\t,max-age=60",
            "private=\"x-a\", private",
            "private, private=\"x-a\"",
        ];
        assert_field("cache-control", false, &restricted);
        for value in restricted {
            assert!(!keeps(&[("cache-control", value), ("expires", FUTURE)]));
        }
        assert_fields(
            false,
            &[&[
                ("cache-control", "max-age=60"),
                ("cache-control", "private"),
            ]],
        );
    }

    #[test]
    fn private_and_no_store_with_an_argument_do_not_count() {
        let limited = [
            "private=\"x-a\", max-age=1",
            "private=x-a, max-age=1",
            "private=\"\", max-age=1",
            "no-store=\"x\", max-age=1",
            "private = \"x-a\", public",
        ];
        assert_field("cache-control", true, &limited);
        assert_field(
            "cache-control",
            false,
            &["private=\"x-a\"", "no-store=\"x\""],
        );
    }

    #[test]
    fn no_store_does_not_count_beside_must_understand() {
        let lifted = "must-understand, no-store, max-age=60";
        assert_field("cache-control", true, &[lifted]);
        assert_field("cdn-cache-control", true, &[lifted]);
        let private = "Must-Understand, no-store, private, max-age=60";
        assert_field("cache-control", false, &[private]);
        assert_field("cdn-cache-control", false, &[private]);
        assert_eq!(
            kept(&[("cache-control", "must-understand, no-store")]),
            ["must-understand, no-store", "private"]
        );
    }

    #[test]
    fn public_keeps_with_and_without_an_argument() {
        let public = [
            "public",
            "PUBLIC",
            "public=1",
            "public=\"x\"",
            "no-cache, public",
            "public, max-age=0",
            "public, s-maxage=0",
        ];
        assert_field("cache-control", true, &public);
        assert_fields(
            true,
            &[
                &[("cache-control", "public"), ("expires", "0")],
                &[("cache-control", "no-cache"), ("cache-control", "public")],
            ],
        );
    }

    #[test]
    fn a_positive_lifetime_keeps() {
        let positive = [
            "max-age=1",
            "s-maxage=1",
            "max-age=01",
            "Max-Age=60",
            "max-age = 9",
            "max-age\t=\t9",
            "max-age=\"60\"",
            "must-revalidate, max-age=1",
            "max-age=99999999999999999999999999",
        ];
        assert_field("cache-control", true, &positive);
    }

    #[test]
    fn a_lifetime_that_cannot_be_read_keeps() {
        for name in ["max-age", "s-maxage"] {
            for value in [
                "", "=", "=-1", "=-0", "=+0", "=0.0", "=x", "=0x", "=\"\"", "=\" 0\"", "=\"\\0\"",
                "=\"0\"0", "=0 0",
            ] {
                assert_field("cache-control", true, &[&format!("{name}{value}")]);
            }
        }
    }

    #[test]
    fn a_lifetime_of_zero_does_not_keep_and_makes_expires_moot() {
        for value in [
            "max-age=0",
            "max-age=00",
            "max-age=\"0\"",
            "s-maxage=0",
            "no-cache, max-age = 0",
            "max-age=0, max-age=00",
        ] {
            assert_field("cache-control", false, &[value]);
            for expires in [FUTURE, "never"] {
                let both = [("cache-control", value), ("expires", expires)];
                assert!(!keeps(&both), "{both:?}");
            }
        }
    }

    #[test]
    fn a_positive_lifetime_keeps_even_if_expires_is_past() {
        assert_fields(
            true,
            &[
                &[("cache-control", "max-age=60"), ("expires", "0")],
                &[("cache-control", "s-maxage=60"), ("expires", PAST)],
            ],
        );
    }

    #[test]
    fn s_maxage_decides_before_max_age() {
        let zero = [
            "s-maxage=0, max-age=60",
            "max-age=60, s-maxage=0",
            "s-maxage=0, max-age",
        ];
        assert_field("cache-control", false, &zero);
        let positive = ["max-age=0, s-maxage=60", "s-maxage=60, max-age=0"];
        assert_field("cache-control", true, &positive);
    }

    #[test]
    fn the_longest_of_several_lifetimes_counts() {
        let several = [
            "max-age=0, max-age=60",
            "max-age=60, max-age=0",
            "s-maxage=0, s-maxage=60, s-maxage=0",
            "max-age=0, max-age=x",
        ];
        assert_field("cache-control", true, &several);
        assert_fields(
            true,
            &[
                &[
                    ("cache-control", "max-age=0"),
                    ("cache-control", "max-age=60"),
                ],
                &[
                    ("cache-control", "max-age=60"),
                    ("cache-control", "max-age=0"),
                ],
            ],
        );
    }

    #[test]
    fn what_a_quoted_string_holds_is_no_directive() {
        let kept = [
            "ext=\"a,no-store,b\", max-age=60",
            "ext=\"a,private\", max-age=60",
            "ext=\"\\\",private,\\\"\", max-age=60",
            "ext=\"a\\\\\", max-age=60, other=\",private,\"",
            "ext = \"private\" , public",
        ];
        assert_field("cache-control", true, &kept);
        let silent = [
            "ext=\"a,public,b\"",
            "ext=\"\\\",public,\\\"\"",
            "ext=\"a=b;max-age=60\"",
            "ext=\"a\\\\\", private, public",
        ];
        assert_field("cache-control", false, &silent);
    }

    const LISTS: [&str; 4] = [
        "cache-control",
        "cdn-cache-control",
        "surrogate-control",
        "edge-control",
    ];

    const DIRECTIVES: [&str; 8] = [
        "private",
        "no-store",
        "public",
        "max-age=0",
        "max-age=1",
        "s-maxage=0",
        "s-maxage=1",
        "ext=\"a,b\"",
    ];

    const MALFORMED: [&str; 20] = [
        "private, \u{fc}",
        "private, ext=\"\u{fc}\"",
        "private, ext=\"a",
        "private, ext=\"a\\\"",
        "ext=\"a, private",
        "private, \"",
        "private, \"a\"",
        "private, \"a\"=b",
        "private, ext=a\"b\"",
        "private, ext=\"a\"b",
        "private, ext=\"a\" \"b\"",
        "private, ext=\"a\"\"b\"",
        "private, ext=",
        "private, =",
        "private, =1",
        "private, ext==1",
        "private, ext=a b",
        "private, no store",
        "private, ext=a/b",
        "private, (a)",
    ];

    #[test]
    fn a_field_that_breaks_the_grammar_keeps_whatever_else_it_says() {
        for name in LISTS {
            let value = MALFORMED.map(|value| value.replace("private", "private, no-store"));
            assert_field(name, true, &value.each_ref().map(String::as_str));
            assert!(keeps(&[(name, "no-store"), (name, "\u{fc}")]), "{name}");
            // Two lines are no one line: a string ends where it began.
            let torn = [(name, "no-store, ext=\"a"), (name, "b\"")];
            assert!(keeps(&torn), "{name}");
        }
    }

    #[test]
    fn a_semicolon_breaks_cache_control_and_edge_control() {
        for name in ["cache-control", "edge-control"] {
            assert_field(
                name,
                true,
                &["no-store;", "no-store; a", "no-store, max-age=0;a=1"],
            );
        }
        assert_field("cache-control", false, &["private, ext=\"a;b\""]);
    }

    #[test]
    fn expires_keeps_until_it_is_past() {
        let future = [
            FUTURE,
            "Thu, 01 Dec 2044 16:00:00 GMT",
            "Monday, 23-Nov-26 12:00:01 GMT",
            "Mon Nov 23 12:00:01 2026",
            "Fri, 31 Dec 9999 23:59:59 GMT",
        ];
        assert_field("expires", true, &future);
        let past = [
            PAST,
            PRESENT,
            "Thu, 01 Jan 1970 00:00:00 GMT",
            "Monday, 23-Nov-26 12:00:00 GMT",
            "Mon Nov 23 12:00:00 2026",
            " Thu, 01 Jan 1970 00:00:00 GMT\t",
        ];
        assert_field("expires", false, &past);
        let nothing_on_lifetime = "no-cache, must-revalidate";
        let of_1997 = "Sat, 26 Jul 1997 05:00:00 GMT";
        assert!(!keeps(&[
            ("cache-control", nothing_on_lifetime),
            ("expires", of_1997)
        ]));
        assert!(keeps(&[
            ("cache-control", nothing_on_lifetime),
            ("expires", FUTURE)
        ]));
    }

    #[test]
    fn an_integer_in_expires_is_past_and_all_else_that_is_no_date_keeps() {
        let integers = ["0", "-1", " 0\t", "+1", "3600", "-99999999999999999999"];
        assert_field("expires", false, &integers);
        let unclear = [
            "",
            "-",
            "--1",
            "0.5",
            "1 0",
            "never",
            "\u{fc}",
            "1997-07-26",
            "Thu, 01 Jan 1970 00:00:00",
            "Thu, 01 Jan 1970 00:00:00 CET",
            // It was a Thursday, so this may be another year.
            "Friday, 01-Jan-70 00:00:00 GMT",
        ];
        assert_field("expires", true, &unclear);
    }

    #[test]
    fn each_line_of_expires_can_keep() {
        assert_fields(
            true,
            &[
                &[("expires", "0"), ("expires", FUTURE)],
                &[("expires", FUTURE), ("expires", "0")],
                &[("expires", PAST), ("expires", "never")],
                &[("expires", PAST), ("expires", "\u{fc}")],
            ],
        );
        assert_fields(false, &[&[("expires", "0"), ("expires", PAST)]]);
    }

    const TARGETED: [&str; 8] = [
        "surrogate-control",
        "cdn-cache-control",
        "Cloudflare-CDN-Cache-Control",
        "vercel-cdn-cache-control",
        "netlify-cdn-cache-control",
        "akamai-cache-control",
        "x-litespeed-cache-control",
        "anybody-cache-control",
    ];

    #[test]
    fn a_targeted_field_keeps_unless_it_forbids_to() {
        for name in TARGETED {
            let kept = [
                "public, max-age=600",
                "max-age=0",
                "no-cache",
                "must-revalidate",
                "ext",
                "private=\"x-a\"",
                "private=?1",
                "no-store=x",
                "ext=\"private\"",
                "no-store;a",
                "ext;private",
                "ext; a=\"b, private, c\"",
                "private; a=\"b",
            ];
            assert_field(name, true, &kept);
            let forbidden = [
                "private",
                "No-Store",
                "max-age=600, private",
                "public, no-store",
            ];
            assert_field(name, false, &forbidden);
            assert_field(name, false, &["", " ", ","]);
        }
    }

    #[test]
    fn fields_do_not_answer_for_each_other() {
        assert_fields(
            true,
            &[
                &[
                    ("cdn-cache-control", "public, max-age=600"),
                    ("cache-control", "private"),
                ],
                &[
                    ("cdn-cache-control", "private"),
                    ("cache-control", "public"),
                ],
                &[
                    ("cdn-cache-control", "no-store"),
                    ("x-cache-control", "max-age=1"),
                ],
                &[("surrogate-control", "no-store"), ("expires", FUTURE)],
                &[
                    ("surrogate-control", "max-age=60"),
                    ("cache-control", "no-store"),
                ],
                &[
                    ("edge-control", "max-age=60"),
                    ("cache-control", "no-store"),
                ],
                &[("x-accel-expires", "60"), ("cache-control", "no-store")],
                &[("x-accel-expires", "0"), ("cache-control", "max-age=60")],
                &[("expires", "0"), ("cdn-cache-control", "max-age=60")],
            ],
        );
        assert_fields(
            false,
            &[&[
                ("cdn-cache-control", "no-store"),
                ("cache-control", "private"),
                ("surrogate-control", "no-store"),
                ("edge-control", "no-store"),
                ("x-accel-expires", "0"),
                ("expires", FUTURE),
            ]],
        );
    }

    #[test]
    fn edge_control_keeps_unless_it_forbids_to() {
        let kept = [
            "max-age=60",
            "cache-maxage=1d",
            "!no-store",
            "private",
            "no-store=x",
        ];
        assert_field("edge-control", true, &kept);
        let forbidden = ["no-store", "max-age=60, no-store", "", " ,"];
        assert_field("edge-control", false, &forbidden);
    }

    #[test]
    fn x_accel_expires_keeps_unless_it_is_zero_or_past() {
        let kept = [
            "60",
            " 60",
            "01",
            "-1",
            "-0",
            "+0",
            "x",
            "0s",
            "\u{fc}",
            "@1795435201",
            "@99999999999",
            "@9999999999999999999",
            "@99999999999999999999999999",
            "@",
            "@-1",
            "@+1",
            "@ 1",
            "@x",
        ];
        assert_field("x-accel-expires", true, &kept);
        let past = [
            "",
            " ",
            "0",
            " 0\t",
            "00",
            "@0",
            "@1",
            "@1795435199",
            "@1795435200",
        ];
        assert_field("x-accel-expires", false, &past);
        assert_fields(
            true,
            &[
                &[("x-accel-expires", "0"), ("x-accel-expires", "60")],
                &[("x-accel-expires", "60"), ("x-accel-expires", "0")],
            ],
        );
    }

    /// All lines of `Cache-Control` after [`keep_private`].
    fn kept(fields: Fields<'_>) -> Vec<String> {
        let mut headers = headers(fields);
        keep_private(&mut headers);
        let lines = headers.get_all(CACHE_CONTROL).iter();
        lines
            .map(|line| String::from_utf8(line.as_bytes().to_vec()).unwrap())
            .collect()
    }

    #[test]
    fn a_response_becomes_private_unless_it_is_already() {
        assert_eq!(kept(&[]), ["private"]);
        assert_eq!(kept(&[("cdn-cache-control", "no-store")]), ["private"]);
        for value in [
            "no-cache",
            "",
            "stale-while-revalidate=60",
            "private=\"x-a\"",
            "no-store=x",
            "ext=\"a,private,b\"",
            "private;",
            "x-private",
        ] {
            assert_eq!(kept(&[("cache-control", value)]), [value, "private"]);
        }
        for value in MALFORMED {
            assert_eq!(kept(&[("cache-control", value)]), [value, "private"]);
        }
        for value in [
            "private",
            "no-store",
            "no-cache,\tPrivate",
            "max-age=60, NO-STORE",
            "private, private=x",
        ] {
            assert_eq!(kept(&[("cache-control", value)]), [value]);
        }
        assert_eq!(
            kept(&[("cache-control", "no-cache"), ("cache-control", "no-store")]),
            ["no-cache", "no-store"]
        );
        assert_eq!(
            kept(&[
                ("cache-control", "no-cache"),
                ("cache-control", "max-age=0")
            ]),
            ["no-cache", "max-age=0", "private"]
        );
    }

    /// Pieces that mean something, and bytes that mean nothing.
    fn value() -> impl Strategy<Value = HeaderValue> {
        const PIECES: [&str; 26] = [
            "private",
            "no-store",
            "public",
            "max-age",
            "s-maxage",
            "must-understand",
            "=",
            "=",
            ",",
            ",",
            ";",
            "\"",
            "\"",
            "\\",
            " ",
            "\t",
            "0",
            "60",
            "-",
            "+",
            "@",
            "@1",
            "GMT",
            FUTURE,
            PAST,
            "\u{fc}",
        ];
        let piece = prop_oneof![
            9 => prop::sample::select(&PIECES[..]).prop_map(|piece| piece.as_bytes().to_vec()),
            1 => any::<u8>().prop_map(|byte| vec![byte]),
        ];
        prop::collection::vec(piece, 0..12).prop_filter_map("no header value", |pieces| {
            HeaderValue::from_bytes(&pieces.concat()).ok()
        })
    }

    fn field() -> impl Strategy<Value = (HeaderName, HeaderValue)> {
        const NAMES: [&str; 6] = [
            "cache-control",
            "expires",
            "cdn-cache-control",
            "surrogate-control",
            "edge-control",
            "x-accel-expires",
        ];
        (
            prop::sample::select(&NAMES[..]).prop_map(HeaderName::from_static),
            value(),
        )
    }

    proptest! {
        #[test]
        fn no_bytes_panic(fields in prop::collection::vec(field(), 0..6), seconds in any::<u32>()) {
            let mut headers = HeaderMap::new();
            for (name, value) in fields {
                headers.append(name, value);
            }
            may_be_shared(&headers, UNIX_EPOCH + Duration::from_secs(seconds.into()));
            keep_private(&mut headers);
        }

        #[test]
        fn a_private_response_stays_as_it_is_and_is_not_shared(values in prop::collection::vec(value(), 0..3)) {
            let mut headers = HeaderMap::from_iter([(CACHE_CONTROL, HeaderValue::from_static("no-cache"))]);
            for value in values {
                headers.append(CACHE_CONTROL, value);
            }
            keep_private(&mut headers);
            let is_malformed = standard_fields_keep(&headers, now()).is_err();
            prop_assert_eq!(may_be_shared(&headers, now()), is_malformed);
            let lines = headers.get_all(CACHE_CONTROL).iter().count();
            keep_private(&mut headers);
            let added = headers.get_all(CACHE_CONTROL).iter().count() - lines;
            prop_assert_eq!(added, usize::from(is_malformed));
        }

        #[test]
        fn one_line_says_what_several_lines_say(
            directives in prop::collection::vec(prop::sample::select(&DIRECTIVES[..]), 0..4),
            name in prop::sample::select(&LISTS[..]),
        ) {
            let lines: Vec<_> = directives.iter().map(|directive| (name, *directive)).collect();
            prop_assert_eq!(keeps(&lines), keeps(&[(name, &directives.join(", "))]));
        }
    }
}
