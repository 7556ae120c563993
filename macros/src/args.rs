//! The attribute's words: what each may be given, and what is wrong when it is not.

use std::{cell::RefCell, time::Duration};

use humantime::DurationError;
use proc_macro2::{Ident, Span, TokenStream, TokenTree};
use syn::{
    Error, Expr, ExprLit, ExprUnary, Lit, LitBool, LitStr, Path, Result, Token, Type, UnOp,
    ext::IdentExt as _,
    parse::{ParseStream, Parser as _},
    spanned::Spanned as _,
    token::Paren,
};

/// Every word, in the order in which the documentation lists them.
const WORDS: [&str; 10] = [
    "interval",
    "skip_staff",
    "skip_superuser",
    "skip_unauthenticated",
    "skip_paths",
    "skip_if",
    "user",
    "policy",
    "key",
    "crate",
];

/// The words as the user wrote them. `None` means unsaid: a named policy, the layer or the default decides.
#[derive(Default)]
pub(crate) struct Args {
    pub(crate) interval: Option<Interval>,
    pub(crate) skip_staff: Option<LitBool>,
    pub(crate) skip_superuser: Option<LitBool>,
    pub(crate) skip_unauthenticated: Option<LitBool>,
    pub(crate) skip_paths: Option<Vec<LitStr>>,
    pub(crate) skip_if: Option<Path>,
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

impl Args {
    /// Reads the words between the attribute's parentheses.
    pub(crate) fn parse(tokens: TokenStream, mistakes: &Mistakes) -> Self {
        let mut args = Self::default();
        let mut seen = Vec::new();
        let words = |input: ParseStream| {
            while !input.is_empty() {
                if let Err(mistake) = args.word(input, &mut seen, mistakes) {
                    mistakes.push(mistake);
                    skip_to_comma(input);
                }
                if input.is_empty() {
                    break;
                }
                if !input.peek(Token![,]) {
                    mistakes.push(input.error("expected `,` between words"));
                    skip_to_comma(input);
                }
                input.parse::<Option<Token![,]>>()?;
            }
            Ok(())
        };
        mistakes.catch(words.parse2(tokens));
        args
    }

    fn word(
        &mut self,
        input: ParseStream,
        seen: &mut Vec<Ident>,
        mistakes: &Mistakes,
    ) -> Result<()> {
        if let Ok(literal) = input.fork().parse::<Lit>() {
            return Err(nameless_literal(&literal));
        }
        if !input.peek(Ident::peek_any) {
            return Err(input.error("expected a word such as `interval`"));
        }
        let word = input.call(Ident::parse_any)?;
        let name = word.to_string();
        if !WORDS.contains(&name.as_str()) {
            return Err(unknown(&word));
        }
        if seen.contains(&word) {
            mistakes.push(Error::new(word.span(), format!("duplicate word `{word}`")));
        }
        seen.push(word.clone());
        match name.as_str() {
            "interval" => self.interval = Some(Interval::parse(value(&word, input, "\"24h\"")?)?),
            "skip_staff" => self.skip_staff = Some(flag(&word, input)?),
            "skip_superuser" => self.skip_superuser = Some(flag(&word, input)?),
            "skip_unauthenticated" => self.skip_unauthenticated = Some(flag(&word, input)?),
            "skip_paths" => self.skip_paths = Some(paths(&word, input, mistakes)?),
            "skip_if" => self.skip_if = Some(value(&word, input, "path::to::predicate")?.parse()?),
            "user" => self.user = Some(value(&word, input, "CurrentUser")?.parse()?),
            "policy" => self.policy = Some(value(&word, input, "SENSITIVE")?.parse()?),
            "key" => self.key = Some(key(value(&word, input, "\"refreshed_at\"")?)?),
            _ => {
                self.krate = Some(
                    value(&word, input, "path::to::session_refresh")?
                        .call(Path::parse_mod_style)?,
                )
            }
        }
        Ok(())
    }
}

impl Interval {
    fn parse(input: ParseStream) -> Result<Self> {
        let expr: Expr = input.parse()?;
        let span = expr.span();
        let known = |duration: Duration| {
            if duration.is_zero() {
                return Err(Error::new(span, zero_interval()));
            }
            Ok(Self::Known(duration, span))
        };
        match &expr {
            Expr::Lit(ExprLit {
                lit: Lit::Str(text),
                ..
            }) => known(duration(text)?),
            Expr::Lit(ExprLit {
                lit: Lit::Int(seconds),
                ..
            }) => match seconds.base10_parse::<u64>() {
                // `time::Duration` counts seconds in an `i64`.
                Ok(seconds) if i64::try_from(seconds).is_ok() => {
                    known(Duration::from_secs(seconds))
                }
                _ => Err(Error::new(
                    span,
                    "interval out of range\n\nhelp: an integer is a number of seconds",
                )),
            },
            Expr::Lit(ExprLit {
                lit: Lit::Float(_), ..
            }) => Err(Error::new(
                span,
                "an interval is not a fraction\n\nhelp: use a smaller unit, such as `interval = \"90min\"`",
            )),
            Expr::Lit(_) => Err(Error::new(
                span,
                "expected a duration\n\nhelp: write a string such as `\"24h\"`, an integer of seconds or a constant of type `time::Duration`",
            )),
            Expr::Unary(ExprUnary {
                op: UnOp::Neg(_),
                expr: inner,
                ..
            }) if matches!(**inner, Expr::Lit(_)) => {
                Err(Error::new(span, "an interval can't be negative"))
            }
            _ => Ok(Self::Constant(expr)),
        }
    }
}

fn zero_interval() -> &'static str {
    "an interval can't be zero\n\nhelp: to write the session on every request, use `SessionManagerLayer::with_always_save`"
}

/// A duration as people write it, `24h` or `1day 2h`, by humantime's grammar less its fractions.
fn duration(text: &LitStr) -> Result<Duration> {
    const UNITS: &str = "help: units are `ms`, `s`, `min`, `h`, `days`, `weeks`, `months` and `years`, as in `\"24h\"` or `\"1day 2h\"`";
    let written = text.value();
    let mistake = |message: String| Err(Error::new(text.span(), format!("{message}\n\n{UNITS}")));
    if written.trim().is_empty() {
        return mistake("an interval can't be empty".into());
    }
    if written.trim_start().starts_with('-') {
        return mistake("an interval can't be negative".into());
    }
    if written.contains('.') {
        return mistake("an interval is not a fraction: use a smaller unit".into());
    }
    match humantime::parse_duration(&written) {
        // `time::Duration` counts seconds in an `i64`.
        Ok(duration) if i64::try_from(duration.as_secs()).is_ok() => Ok(duration),
        Err(DurationError::UnknownUnit { unit, value, .. }) if unit.is_empty() => {
            mistake(format!("`{value}` has no unit"))
        }
        Err(DurationError::UnknownUnit { unit, .. }) => mistake(format!("unknown unit `{unit}`")),
        Ok(_) | Err(DurationError::NumberOverflow) => mistake("interval out of range".into()),
        Err(error) => mistake(format!("not a duration: {error}")),
    }
}

/// `= value`, or an error that shows what a value looks like.
fn value<'a>(word: &Ident, input: ParseStream<'a>, example: &str) -> Result<ParseStream<'a>> {
    if input.peek(Token![=]) {
        input.parse::<Token![=]>()?;
        if !input.is_empty() && !input.peek(Token![,]) {
            return Ok(input);
        }
    }
    Err(Error::new(
        word.span(),
        format!("`{word}` needs a value\n\nhelp: write `{word} = {example}`"),
    ))
}

/// `word`, `word = true` or `word = false`.
fn flag(word: &Ident, input: ParseStream) -> Result<LitBool> {
    if !input.peek(Token![=]) {
        if input.peek(Paren) {
            return Err(Error::new(
                word.span(),
                format!("`{word}` is a flag\n\nhelp: write `{word}` or `{word} = false`"),
            ));
        }
        return Ok(LitBool::new(true, word.span()));
    }
    input.parse::<Token![=]>()?;
    input.parse().map_err(|error| {
        Error::new(
            error.span(),
            format!(
                "`{word}` is a flag\n\nhelp: write `{word}`, `{word} = true` or `{word} = false`"
            ),
        )
    })
}

/// `skip_paths("/static/", "/media/")`.
fn paths(word: &Ident, input: ParseStream, mistakes: &Mistakes) -> Result<Vec<LitStr>> {
    if !input.peek(Paren) {
        return Err(Error::new(
            word.span(),
            "`skip_paths` needs a list of prefixes\n\nhelp: write `skip_paths(\"/static/\", \"/media/\")`",
        ));
    }
    let list;
    syn::parenthesized!(list in input);
    let paths: Vec<LitStr> = list
        .parse_terminated(<LitStr as syn::parse::Parse>::parse, Token![,])?
        .into_iter()
        .collect();
    if paths.is_empty() {
        mistakes.push(Error::new(word.span(), "`skip_paths` lists no prefix"));
    }
    for path in &paths {
        if !path.value().starts_with('/') {
            mistakes.push(Error::new(path.span(), "a path prefix starts with `/`"));
        }
    }
    Ok(paths)
}

fn key(input: ParseStream) -> Result<LitStr> {
    let key: LitStr = input.parse()?;
    if key.value().is_empty() {
        return Err(Error::new(key.span(), "a session key can't be empty"));
    }
    Ok(key)
}

fn nameless_literal(literal: &Lit) -> Error {
    let help = match literal {
        Lit::Str(_) | Lit::Int(_) => {
            use quote::ToTokens as _;
            format!("\n\nhelp: write `interval = {}`", literal.to_token_stream())
        }
        _ => String::new(),
    };
    Error::new(
        literal.span(),
        format!("expected a word, found a literal{help}"),
    )
}

fn unknown(word: &Ident) -> Error {
    let name = word.to_string();
    let nearest = WORDS
        .into_iter()
        .map(|known| (strsim::damerau_levenshtein(known, &name), known))
        .min()
        .filter(|(distance, known)| *distance <= known.len() / 3);
    let help = match nearest {
        Some((_, known)) => format!("did you mean `{known}`?"),
        None => format!("words are `{}`", WORDS.join("`, `")),
    };
    Error::new(
        word.span(),
        format!("unknown word `{name}`\n\nhelp: {help}"),
    )
}

/// After a mistake: on to the next word, so that its mistakes are reported as well.
fn skip_to_comma(input: ParseStream) {
    while !input.is_empty() && !input.peek(Token![,]) {
        let _ = input.parse::<TokenTree>();
    }
}
