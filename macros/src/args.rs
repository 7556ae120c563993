//! The attribute's options: what each may be given, and what is wrong when it is not.

use std::{cell::RefCell, time::Duration};

use humantime::DurationError;
use proc_macro2::{Ident, Span, TokenStream, TokenTree};
use quote::ToTokens;
use syn::{
    Error, Expr, ExprLit, ExprPath, ExprUnary, Lit, LitBool, LitInt, LitStr, Path, Result, Token,
    Type, UnOp,
    ext::IdentExt as _,
    parse::{Parse, ParseStream, Parser as _},
    spanned::Spanned as _,
    token::Paren,
};

/// Every option, in the order in which the documentation lists them.
pub(crate) const OPTIONS: [&str; 12] = [
    "interval",
    "passive",
    "skip_staff",
    "skip_superuser",
    "skip_unauthenticated",
    "skip_prefetch",
    "skip_paths",
    "skip_if",
    "user",
    "policy",
    "key",
    "crate",
];

/// The options as the user wrote them. `None`: the option is not there, so a named policy, the layer or the default decides.
#[derive(Default)]
pub(crate) struct Args {
    pub(crate) interval: Option<Interval>,
    pub(crate) passive: Option<LitBool>,
    pub(crate) skip_staff: Option<LitBool>,
    pub(crate) skip_superuser: Option<LitBool>,
    pub(crate) skip_unauthenticated: Option<LitBool>,
    pub(crate) skip_prefetch: Option<LitBool>,
    pub(crate) skip_paths: Option<Vec<LitStr>>,
    pub(crate) skip_if: Option<ExprPath>,
    pub(crate) user: Option<Type>,
    pub(crate) policy: Option<Expr>,
    pub(crate) key: Option<LitStr>,
    pub(crate) krate: Option<Path>,
}

/// How often a session is refreshed at most.
pub(crate) enum Interval {
    /// Written as a string or as seconds: known here.
    Known(Duration, Span),
    /// A constant expression of type `time::Duration`: known to the compiler.
    Constant(Expr),
}

/// Collects mistakes, so that all of them are reported at once.
#[derive(Default)]
pub(crate) struct Mistakes(RefCell<Vec<Error>>);

impl Mistakes {
    pub(crate) fn push(&self, mistake: Error) {
        self.0.borrow_mut().push(mistake);
    }

    /// The value, or nothing and one more mistake.
    pub(crate) fn catch<T>(&self, result: Result<T>) -> Option<T> {
        result.map_err(|mistake| self.push(mistake)).ok()
    }

    /// All mistakes as `compile_error!`s; `None` if there were none.
    pub(crate) fn into_compile_errors(self) -> Option<TokenStream> {
        self.0
            .into_inner()
            .into_iter()
            .reduce(|mut all, mistake| {
                all.combine(mistake);
                all
            })
            .map(|all| all.to_compile_error())
    }
}

/// What is wrong and what would be right, in the compiler's own form.
pub(crate) fn mistake(at: impl ToTokens, what: impl AsRef<str>, help: impl AsRef<str>) -> Error {
    let (what, help) = (what.as_ref(), help.as_ref());
    Error::new_spanned(at, format!("{what}\n\nhelp: {help}"))
}

impl Args {
    /// Reads the options between the attribute's parentheses.
    pub(crate) fn parse(tokens: TokenStream, mistakes: &Mistakes) -> Self {
        let mut args = Self::default();
        let mut seen = Vec::new();
        let options = |input: ParseStream| {
            while !input.is_empty() {
                if let Err(mistake) = args.option(input, &mut seen, mistakes) {
                    mistakes.push(mistake);
                    up_to_comma(input);
                }
                end_of_word(input, mistakes)?;
            }
            Ok(())
        };
        mistakes.catch(options.parse2(tokens));
        args
    }

    fn option(
        &mut self,
        input: ParseStream,
        seen: &mut Vec<Ident>,
        mistakes: &Mistakes,
    ) -> Result<()> {
        if let Ok(literal) = input.fork().parse::<Lit>() {
            return Err(nameless(&literal));
        }
        if !input.peek(Ident::peek_any) {
            return Err(input.error("expected an option such as `interval`"));
        }
        let option = input.call(Ident::parse_any)?;
        let name = option.to_string();
        if !OPTIONS.contains(&name.as_str()) {
            return Err(unknown(&option));
        }
        if seen.contains(&option) {
            mistakes.push(Error::new(
                option.span(),
                format!("duplicate option `{option}`"),
            ));
        }
        seen.push(option.clone());
        match name.as_str() {
            "interval" => self.interval = Some(Interval::read(INTERVAL.value(&option, input)?)?),
            "passive" => self.passive = Some(flag(&option, input)?),
            "skip_staff" => self.skip_staff = Some(flag(&option, input)?),
            "skip_superuser" => self.skip_superuser = Some(flag(&option, input)?),
            "skip_unauthenticated" => self.skip_unauthenticated = Some(flag(&option, input)?),
            "skip_prefetch" => self.skip_prefetch = Some(flag(&option, input)?),
            "skip_paths" => self.skip_paths = Some(paths(&option, input, mistakes)?),
            "skip_if" => self.skip_if = Some(predicate(SKIP_IF.value(&option, input)?)?),
            "user" => self.user = Some(USER.value(&option, input)?),
            "policy" => self.policy = Some(policy(POLICY.value(&option, input)?)?),
            "key" => self.key = Some(key(KEY.value(&option, input)?)?),
            _ => self.krate = Some(CRATE.value_by(&option, input, Path::parse_mod_style)?),
        }
        Ok(())
    }
}

/// What a option takes, for whoever gives it something else.
struct Takes {
    what: &'static str,
    example: &'static str,
}

const INTERVAL: Takes = Takes {
    what: "a duration: a string, an integer of seconds, or a constant of type `time::Duration`",
    example: "interval = \"24h\"",
};
const SKIP_PATHS: Takes = Takes {
    what: "a list of path prefixes",
    example: "skip_paths(\"/static/\", \"/media/\")",
};
const SKIP_IF: Takes = Takes {
    what: "the path of a `fn(&http::request::Parts) -> bool`",
    example: "skip_if = path::to::predicate",
};
const USER: Takes = Takes {
    what: "a type: an extractor that implements `SessionUser`",
    example: "user = CurrentUser",
};
const POLICY: Takes = Takes {
    what: "a constant of type `Policy`",
    example: "policy = SENSITIVE",
};
const KEY: Takes = Takes {
    what: "a string literal",
    example: "key = \"refreshed_at\"",
};
const CRATE: Takes = Takes {
    what: "the path by which `session-refresh` is known here",
    example: "crate = path::to::session_refresh",
};

impl Takes {
    fn mistake(&self, at: impl ToTokens) -> Error {
        mistake(
            at,
            format!("expected {}", self.what),
            format!("write `{}`", self.example),
        )
    }

    /// `= value`.
    fn value<T: Parse>(&self, option: &Ident, input: ParseStream) -> Result<T> {
        self.value_by(option, input, T::parse)
    }

    fn value_by<T>(
        &self,
        option: &Ident,
        input: ParseStream,
        parse: fn(ParseStream) -> Result<T>,
    ) -> Result<T> {
        let given = input.parse::<Option<Token![=]>>()?.is_some();
        if !given || input.is_empty() || input.peek(Token![,]) {
            return Err(mistake(
                option,
                format!("`{option}` needs a value"),
                format!("write `{}`", self.example),
            ));
        }
        parse(input).map_err(|error| {
            // Where the parser stopped, but not in its words: they list what else the grammar would allow there.
            self.mistake(TokenTree::Ident(Ident::new("_", error.span())))
        })
    }
}

impl Interval {
    fn read(expr: Expr) -> Result<Self> {
        let expr = ungrouped(expr);
        let duration = match &expr {
            Expr::Lit(ExprLit {
                lit: Lit::Str(text),
                ..
            }) => duration(text)?,
            Expr::Lit(ExprLit {
                lit: Lit::Int(seconds),
                ..
            }) => seconds_of(seconds)?,
            Expr::Lit(ExprLit {
                lit: Lit::Float(_), ..
            }) => return Err(fraction(&expr)),
            Expr::Lit(_) => return Err(INTERVAL.mistake(&expr)),
            Expr::Unary(ExprUnary {
                op: UnOp::Neg(_),
                expr: inner,
                ..
            }) if matches!(**inner, Expr::Lit(_)) => return Err(negative(&expr)),
            _ => return Ok(Self::Constant(expr)),
        };
        if duration.is_zero() {
            return Err(mistake(
                &expr,
                "an interval can't be zero",
                "to write the session on every request, use `SessionManagerLayer::with_always_save`",
            ));
        }
        if duration.as_millis() == 0 {
            return Err(Error::new_spanned(
                &expr,
                "an interval is a millisecond or longer",
            ));
        }
        Ok(Self::Known(duration, expr.span()))
    }
}

/// `time::Duration` counts seconds in an `i64`.
const MAX_SECONDS: u64 = i64::MAX.unsigned_abs();

/// `3600`, but not `24h`, in which the `h` is no more than a suffix to the compiler.
fn seconds_of(seconds: &LitInt) -> Result<Duration> {
    let suffix = seconds.suffix();
    if !suffix.is_empty() && !suffix.starts_with(['i', 'u']) {
        return Err(mistake(
            seconds,
            "a duration with a unit is a string",
            format!("write `interval = \"{seconds}\"`"),
        ));
    }
    match seconds.base10_parse() {
        Ok(seconds) if seconds <= MAX_SECONDS => Ok(Duration::from_secs(seconds)),
        _ => Err(out_of_range(seconds)),
    }
}

/// A duration as people write it, `24h` or `1day 2h`, by humantime's grammar less its fractions.
fn duration(text: &LitStr) -> Result<Duration> {
    const EXAMPLE: &str = "write numbers with units, such as `\"24h\"` or `\"1day 2h\"`";
    const UNITS: &str = "units are `ms`, `s`, `min`, `h`, `days`, `weeks`, `months` and `years`, as in `\"1day 2h\"`";
    let written = text.value();
    let written = written.trim();
    if written.is_empty() {
        return Err(mistake(text, "an interval can't be empty", EXAMPLE));
    }
    if written.starts_with('-') {
        return Err(negative(text));
    }
    if written.contains('.') {
        return Err(fraction(text));
    }
    let (what, help) = match humantime::parse_duration(written) {
        Ok(duration) if duration.as_secs() <= MAX_SECONDS => return Ok(duration),
        Ok(_) | Err(DurationError::NumberOverflow) => return Err(out_of_range(text)),
        Err(DurationError::UnknownUnit { unit, value, .. }) if unit.is_empty() => {
            (format!("`{value}` has no unit"), UNITS)
        }
        Err(DurationError::UnknownUnit { unit, .. }) => (format!("unknown unit `{unit}`"), UNITS),
        Err(DurationError::NumberExpected(at)) => {
            let rest = written.get(at..).unwrap_or(written);
            (format!("expected a number before `{rest}`"), EXAMPLE)
        }
        Err(DurationError::InvalidCharacter(at)) => {
            let rest = written.get(at..).unwrap_or(written);
            let odd: String = rest.chars().take(1).collect();
            (format!("`{odd}` can't be part of an interval"), EXAMPLE)
        }
        Err(error) => (error.to_string(), EXAMPLE),
    };
    Err(mistake(text, what, help))
}

fn negative(at: impl ToTokens) -> Error {
    Error::new_spanned(at, "an interval can't be negative")
}

fn fraction(at: impl ToTokens) -> Error {
    mistake(
        at,
        "an interval can't have a fraction",
        "use a smaller unit, as in `\"1h 30min\"`",
    )
}

fn out_of_range(at: impl ToTokens) -> Error {
    mistake(
        at,
        "interval out of range",
        "an integer is a number of seconds; in a string, a unit follows each number, as in `\"1day 2h\"`",
    )
}

/// `option`, `option = true` or `option = false`.
fn flag(option: &Ident, input: ParseStream) -> Result<LitBool> {
    let mistake = |at: &dyn ToTokens| {
        mistake(
            at.to_token_stream(),
            format!("`{option}` is a flag"),
            format!("write `{option}`, `{option} = true` or `{option} = false`"),
        )
    };
    if input.peek(Paren) {
        return Err(mistake(option));
    }
    if input.parse::<Option<Token![=]>>()?.is_none() {
        return Ok(LitBool::new(true, option.span()));
    }
    if input.is_empty() || input.peek(Token![,]) {
        return Err(mistake(option));
    }
    match input.fork().parse::<TokenTree>() {
        Ok(found) => input.parse().map_err(|_| mistake(&found)),
        Err(error) => Err(error),
    }
}

/// `skip_paths("/static/", "/media/")`.
fn paths(option: &Ident, input: ParseStream, mistakes: &Mistakes) -> Result<Vec<LitStr>> {
    if !input.peek(Paren) {
        return Err(mistake(
            option,
            format!("`skip_paths` needs {}", SKIP_PATHS.what),
            format!("write `{}`", SKIP_PATHS.example),
        ));
    }
    let list;
    syn::parenthesized!(list in input);
    if list.is_empty() {
        mistakes.push(mistake(
            option,
            "`skip_paths` lists no prefix",
            format!("write `{}`", SKIP_PATHS.example),
        ));
    }
    let mut paths = Vec::new();
    while !list.is_empty() {
        if let Ok(path) = list.parse::<LitStr>() {
            mistakes.catch(prefix(&path));
            paths.push(path);
        } else {
            mistakes.push(SKIP_PATHS.mistake(up_to_comma(&list)));
        }
        end_of_word(&list, mistakes)?;
    }
    Ok(paths)
}

fn prefix(path: &LitStr) -> Result<()> {
    let written = path.value();
    if written.is_empty() {
        return Err(mistake(
            path,
            "a path prefix can't be empty",
            "every path begins with an empty prefix: leave the attribute away",
        ));
    }
    if !written.starts_with('/') {
        return Err(mistake(
            path,
            "a path prefix begins with `/`",
            format!("write `\"/{}\"`", written.escape_debug()),
        ));
    }
    Ok(())
}

fn predicate(expr: Expr) -> Result<ExprPath> {
    match ungrouped(expr) {
        Expr::Path(path) => Ok(path),
        other => Err(SKIP_IF.mistake(other)),
    }
}

fn policy(expr: Expr) -> Result<Expr> {
    match ungrouped(expr) {
        literal @ Expr::Lit(_) => Err(POLICY.mistake(literal)),
        constant => Ok(constant),
    }
}

fn key(expr: Expr) -> Result<LitStr> {
    match ungrouped(expr) {
        Expr::Lit(ExprLit {
            lit: Lit::Str(key), ..
        }) if key.value().is_empty() => {
            Err(Error::new_spanned(key, "a session key can't be empty"))
        }
        Expr::Lit(ExprLit {
            lit: Lit::Str(key), ..
        }) => Ok(key),
        other => Err(KEY.mistake(other)),
    }
}

/// Without the invisible group that a macro puts around its `$value:expr`.
fn ungrouped(mut expr: Expr) -> Expr {
    while let Expr::Group(group) = expr {
        expr = *group.expr;
    }
    expr
}

fn nameless(literal: &Lit) -> Error {
    const WHAT: &str = "expected an option, found a literal";
    match literal {
        Lit::Str(_) | Lit::Int(_) => mistake(
            literal,
            WHAT,
            format!("write `interval = {}`", literal.to_token_stream()),
        ),
        _ => Error::new_spanned(literal, WHAT),
    }
}

fn unknown(option: &Ident) -> Error {
    let name = option.to_string();
    let begun = OPTIONS.into_iter().filter(|known| known.starts_with(&name));
    let nearest = OPTIONS
        .into_iter()
        .map(|known| (strsim::damerau_levenshtein(known, &name), known))
        .min()
        .filter(|(distance, known)| *distance <= known.len() / 3)
        .map(|(_, known)| known);
    let mut meant: Vec<_> = begun.collect();
    if meant.is_empty() {
        meant.extend(nearest);
    }
    let help = if meant.is_empty() {
        format!("options are `{}`", OPTIONS.join("`, `"))
    } else {
        format!("did you mean `{}`?", meant.join("` or `"))
    };
    mistake(option, format!("unknown option `{name}`"), help)
}

/// The comma after a option, or the end.
fn end_of_word(input: ParseStream, mistakes: &Mistakes) -> Result<()> {
    if !input.is_empty() && !input.peek(Token![,]) {
        mistakes.push(input.error("expected `,`"));
        // What follows may well be a option that only lacks the comma.
        if !input.peek(Ident::peek_any) {
            up_to_comma(input);
        }
    }
    input.parse::<Option<Token![,]>>()?;
    Ok(())
}

/// After a mistake: on to the next option, so that its mistakes are reported as well.
fn up_to_comma(input: ParseStream) -> TokenStream {
    let mut passed = TokenStream::new();
    while !input.peek(Token![,]) {
        match input.parse::<TokenTree>() {
            Ok(token) => passed.extend([token]),
            Err(_) => break,
        }
    }
    passed
}
