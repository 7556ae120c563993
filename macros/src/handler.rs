//! The function under the attribute: its head is parsed and checked, its body passes through as tokens.

use proc_macro2::{Delimiter, Ident, Span, TokenStream, TokenTree};
use quote::ToTokens as _;
use syn::{
    Attribute, Error, FnArg, Meta, Result, ReturnType, Safety, Signature, Type, Visibility,
    parse::{Parse, ParseStream},
};

use crate::args::{Mistakes, mistake};

/// A handler, its body unread: an editor must be able to complete inside half-typed code.
pub(crate) struct Handler {
    pub(crate) attrs: Vec<Attribute>,
    pub(crate) vis: Visibility,
    pub(crate) sig: Signature,
    /// The braces and what is between them, or an editor's placeholder.
    pub(crate) body: TokenTree,
}

/// Everything before the braces.
struct Head {
    attrs: Vec<Attribute>,
    vis: Visibility,
    sig: Signature,
}

impl Parse for Head {
    fn parse(input: ParseStream) -> Result<Self> {
        Ok(Self {
            attrs: input.call(Attribute::parse_outer)?,
            vis: input.parse()?,
            sig: input.parse()?,
        })
    }
}

/// axum implements `Handler` for functions of up to sixteen arguments.
const MAX_ARGUMENTS: usize = 16;

const FREE: &str = "write a free function, outside of `impl` and `trait`, and take what it needs by extractors such as `State`";

impl Handler {
    /// Takes the item apart. The body stays closed, which is also what makes this fast.
    pub(crate) fn read(item: TokenStream) -> Result<Self> {
        let mut head = ungrouped(item);
        if let Some(mistake) = not_a_function(&head) {
            return Err(mistake);
        }
        let body = match head.pop() {
            Some(body @ TokenTree::Group(_)) => body,
            // In its place, rust-analyzer puts back a body that it could not parse.
            Some(TokenTree::Ident(body)) if body == "__ra_fixup" => body.into(),
            // A declaration ends in a semicolon.
            _ => {
                let head: TokenStream = head.into_iter().collect();
                return Err(mistake(head, "a handler needs a body", FREE));
            }
        };
        // The compiler says more about it, and has done so already.
        let Head { attrs, vis, sig } = syn::parse2(head.into_iter().collect())
            .map_err(|error| Error::new(error.span(), "can't read the handler's signature"))?;
        Ok(Self {
            attrs,
            vis,
            sig,
            body,
        })
    }

    /// The router's state, if `#[debug_handler(state = Type)]` below names it. Without the state, it makes a guess that is
    /// good enough for the handler's own arguments.
    pub(crate) fn state(&self) -> Option<Type> {
        if !self.sig.generics.params.is_empty() {
            return None; // It refuses those.
        }
        let attr = self.attrs.iter().find(|attr| {
            let last = attr.path().segments.last();
            last.is_some_and(|last| last.ident == "debug_handler")
        })?;
        let mut state = None;
        if !matches!(attr.meta, Meta::Path(_)) {
            // What it does not know, axum reports.
            let _ = attr.parse_nested_meta(|word| {
                if word.path.is_ident("state") {
                    state = Some(word.value()?.parse()?);
                }
                Ok(())
            });
        }
        state
    }

    /// What axum could never route.
    pub(crate) fn check(&self, mistakes: &Mistakes) {
        for attr in &self.attrs {
            mistakes.catch(check_attr(attr));
        }
        self.check_qualifiers(mistakes);
        self.check_arguments(mistakes);
    }

    fn check_qualifiers(&self, mistakes: &Mistakes) {
        let sig = &self.sig;
        if let Some(constness) = &sig.constness {
            mistakes.push(Error::new_spanned(constness, "a handler can't be `const`"));
        }
        if let Safety::Unsafe(unsafety) = &sig.safety {
            mistakes.push(mistake(
                unsafety,
                "a handler can't be `unsafe`",
                "put an `unsafe` block into it",
            ));
        }
        if let Some(abi) = &sig.abi {
            mistakes.push(Error::new_spanned(abi, "a handler can't be `extern`"));
        }
        if let Some(variadic) = &sig.variadic {
            mistakes.push(Error::new_spanned(variadic, "a handler can't be variadic"));
        }
        // A `const` or `extern` function can't be `async`: one mistake, one error.
        let may_be_async = sig.constness.is_none() && sig.abi.is_none();
        if sig.asyncness.is_none() && may_be_async && is_no_future(&sig.output) {
            mistakes.push(mistake(
                sig.fn_token,
                "a handler is an `async fn` or returns a future",
                "write `async fn`",
            ));
        }
    }

    fn check_arguments(&self, mistakes: &Mistakes) {
        let sig = &self.sig;
        let mut head = sig.inputs.to_token_stream();
        sig.output.to_tokens(&mut head);
        if let Some(FnArg::Receiver(receiver)) = sig.inputs.first() {
            mistakes.push(mistake(receiver, "a handler can't take `self`", FREE));
        } else if let Some(this) = self_type(head) {
            mistakes.push(mistake(
                this,
                "a handler can't be an associated function",
                FREE,
            ));
        }
        if let Some(argument) = sig.inputs.iter().nth(MAX_ARGUMENTS) {
            mistakes.push(mistake(
                argument,
                format!("a handler takes at most {MAX_ARGUMENTS} arguments"),
                "combine some of them: axum implements its extractor traits for tuples",
            ));
        }
        for argument in &sig.inputs {
            let attrs = match argument {
                FnArg::Typed(argument) => &argument.attrs,
                FnArg::Receiver(receiver) => &receiver.attrs,
            };
            for attr in attrs {
                if attr.path().is_ident("cfg") || attr.path().is_ident("cfg_attr") {
                    mistakes.push(mistake(
                        attr,
                        "an argument of a handler can't be conditional",
                        "write two handlers, each with its `#[cfg(..)]`",
                    ));
                }
            }
        }
    }
}

/// As far as it can be seen: what a type's name stands for, only the compiler knows.
fn is_no_future(output: &ReturnType) -> bool {
    match output {
        ReturnType::Default => true,
        ReturnType::Type(_, output) => match &**output {
            Type::Reference(reference) => reference.mutability.is_none(),
            Type::Tuple(_) | Type::Array(_) => true,
            _ => false,
        },
    }
}

/// What does not do its work on the inner function.
fn check_attr(attr: &Attribute) -> Result<()> {
    let mut path = attr.path().segments.iter().rev().map(|part| &part.ident);
    match (path.next(), path.next()) {
        (Some(last), _) if last == "session_refresh" => Err(mistake(
            attr,
            "a second `#[session_refresh]` on one handler",
            "write all options into one of them",
        )),
        (Some(last), Some(parent)) if last == "path" && parent == "utoipa" => Err(mistake(
            attr,
            "`#[utoipa::path]` has no effect below `#[session_refresh]`",
            "move it above `#[session_refresh]`",
        )),
        _ => Ok(()),
    }
}

/// Where `Self` is named, if anywhere.
fn self_type(tokens: TokenStream) -> Option<TokenTree> {
    tokens.into_iter().find_map(|token| match token {
        TokenTree::Ident(ident) if ident == "Self" => Some(ident.into()),
        TokenTree::Group(group) => self_type(group.stream()),
        _ => None,
    })
}

/// Without the invisible group that a macro puts around its `$item:item`.
fn ungrouped(item: TokenStream) -> Vec<TokenTree> {
    let mut tokens: Vec<_> = item.into_iter().collect();
    while let [TokenTree::Group(group)] = tokens.as_slice()
        && group.delimiter() == Delimiter::None
    {
        tokens = group.stream().into_iter().collect();
    }
    tokens
}

/// Tells from an item's words what it is, if it is no function.
fn not_a_function(item: &[TokenTree]) -> Option<Error> {
    /// What may stand before `fn`. (The `crate` of `pub(crate)` is in parentheses.)
    const QUALIFIERS: [&str; 6] = ["pub", "default", "const", "async", "unsafe", "extern"];
    const FUNCTION: &str = "write it on an `async fn`";
    const EACH: &str = "write it on each handler";
    const KINDS: [(&str, &str, &str); 13] = [
        ("struct", "a struct", FUNCTION),
        ("enum", "an enum", FUNCTION),
        ("union", "a union", FUNCTION),
        ("mod", "a module", EACH),
        ("impl", "an `impl`", FREE),
        ("trait", "a trait", FREE),
        ("type", "a type alias", FUNCTION),
        ("use", "an import", FUNCTION),
        ("const", "a constant", FUNCTION),
        ("static", "a static", FUNCTION),
        ("extern", "an `extern` block", FUNCTION),
        ("macro_rules", "a macro", FUNCTION),
        ("let", "a statement", FUNCTION),
    ];
    let words = || {
        item.iter().filter_map(|token| match token {
            TokenTree::Ident(word) => Some(word),
            _ => None,
        })
    };
    let keyword = words().find(|word| QUALIFIERS.iter().all(|qualifier| *word != qualifier));
    if keyword.is_some_and(|keyword| keyword == "fn") {
        return None;
    }
    let kind = words().find_map(|word| {
        let (_, what, help) = KINDS.iter().find(|(keyword, ..)| word == keyword)?;
        Some((word.span(), *what, *help))
    });
    let (span, what, help) = kind.unwrap_or_else(|| {
        let span = item.first().map_or_else(Span::call_site, TokenTree::span);
        (span, "a closure", FUNCTION)
    });
    let what = format!("expected a handler function, found {what}");
    Some(mistake(Ident::new("_", span), what, help))
}
