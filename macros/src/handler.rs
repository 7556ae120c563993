//! The function under the attribute: its head is parsed and checked, its body passes through as tokens.

use proc_macro2::TokenStream;
use syn::{
    Attribute, Error, FnArg, Result, Safety, Signature, Visibility,
    parse::{Parse, ParseStream},
    spanned::Spanned as _,
};

use crate::args::Mistakes;

/// A handler, its body unread: an editor must be able to complete inside half-typed code.
pub(crate) struct Handler {
    pub(crate) attrs: Vec<Attribute>,
    pub(crate) vis: Visibility,
    pub(crate) sig: Signature,
    pub(crate) body: TokenStream,
}

impl Parse for Handler {
    fn parse(input: ParseStream) -> Result<Self> {
        Ok(Self {
            attrs: input.call(Attribute::parse_outer)?,
            vis: input.parse()?,
            sig: input.parse()?,
            body: input.parse()?,
        })
    }
}

/// axum implements `Handler` for functions of up to sixteen arguments.
const MAX_ARGUMENTS: usize = 16;

impl Handler {
    /// What axum could never route.
    pub(crate) fn check(&self, mistakes: &Mistakes) {
        let sig = &self.sig;
        let mistake = |span, message: &str| mistakes.push(Error::new(span, message));
        if let Some(constness) = &sig.constness {
            mistake(constness.span(), "a handler can't be `const`");
        }
        if let Safety::Unsafe(unsafety) = &sig.safety {
            mistake(unsafety.span(), "a handler can't be `unsafe`");
        }
        if let Some(abi) = &sig.abi {
            mistake(abi.span(), "a handler can't be `extern`");
        }
        if let Some(variadic) = &sig.variadic {
            mistake(variadic.span(), "a handler can't be variadic");
        }
        if let Some(FnArg::Receiver(receiver)) = sig.inputs.first() {
            mistake(
                receiver.span(),
                "a handler can't take `self`\n\nhelp: write a free function and take what it needs by `State`",
            );
        }
        if let Some(argument) = sig.inputs.iter().nth(MAX_ARGUMENTS) {
            mistake(argument.span(), "axum handlers take at most 16 arguments");
        }
        if sig.asyncness.is_none() && matches!(sig.output, syn::ReturnType::Default) {
            mistake(
                sig.fn_token.span(),
                "a handler is an `async fn` or returns a future\n\nhelp: write `async fn`",
            );
        }
        for argument in &sig.inputs {
            let attrs = match argument {
                FnArg::Typed(argument) => &argument.attrs,
                FnArg::Receiver(receiver) => &receiver.attrs,
            };
            for attr in attrs.iter().filter(|attr| attr.path().is_ident("cfg")) {
                mistake(
                    attr.span(),
                    "`#[cfg]` on an argument of a handler is not supported\n\nhelp: put it on two handlers",
                );
            }
        }
    }
}
