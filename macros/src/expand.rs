//! The output: a policy type, and a function of the user's name around the user's function.

use proc_macro2::{Span, TokenStream};
use quote::{ToTokens as _, format_ident, quote, quote_spanned};
use syn::{
    Attribute, Error, FnArg, GenericParam, Generics, Ident, Meta, Path, Type, parse_quote,
    spanned::Spanned as _,
};

use crate::{
    args::{Args, Interval, Mistakes},
    handler::Handler,
};

pub(crate) fn expand(args: TokenStream, item: TokenStream) -> TokenStream {
    let mistakes = Mistakes::default();
    let args = Args::parse(args, &mistakes);
    let handler =
        mistakes.catch(syn::parse2::<Handler>(item.clone()).map_err(|_| not_a_function(&item)));
    if let Some(handler) = &handler {
        handler.check(&mistakes);
    }
    if let Some(errors) = mistakes.into_compile_errors() {
        // The function as it was: one mistake in the attribute must not make a missing handler of it, too.
        return quote!(#errors #item);
    }
    handler
        .map(|handler| refreshed(&args, &handler))
        .unwrap_or_default()
}

fn not_a_function(item: &TokenStream) -> Error {
    let span = item
        .clone()
        .into_iter()
        .next()
        .map_or_else(Span::call_site, |token| token.span());
    Error::new(span, "`#[session_refresh]` belongs on a handler function")
}

fn refreshed(args: &Args, handler: &Handler) -> TokenStream {
    let krate: Path = args
        .krate
        .clone()
        .unwrap_or_else(|| parse_quote!(::session_refresh));
    let Handler {
        attrs,
        vis,
        sig,
        body,
    } = handler;
    let name = &sig.ident;
    let outer_attrs: Vec<_> = attrs.iter().filter_map(outer_attr).collect();
    let cfgs: Vec<_> = attrs
        .iter()
        .filter(|attr| attr.path().is_ident("cfg"))
        .collect();

    let route = Route::new(name, &sig.generics);
    let policy = policy(args, &krate);
    let user = args
        .user
        .as_ref()
        .map_or_else(|| quote!(#krate::FromLayer), |user| quote!(#user));
    let Route {
        ident,
        generics,
        fields,
        path,
    } = &route;
    let (impl_generics, type_generics, where_clause) = generics.split_for_impl();

    // The first argument carries the guard. One of the others would do as well, but a handler may have no other.
    let mut inputs = sig.inputs.iter().map(|input| match input {
        FnArg::Typed(argument) => (*argument.ty).clone(),
        FnArg::Receiver(_) => unreachable!("`self` has been refused"),
    });
    let first = inputs.next();
    let has_first = first.is_some();
    let first: Type = first.unwrap_or_else(|| parse_quote!(()));
    let others: Vec<Type> = inputs.collect();
    let other_names: Vec<Ident> = (1..=others.len())
        .map(|index| Ident::new(&format!("argument_{index}"), Span::mixed_site()))
        .collect();

    let first_name = Ident::new("first", Span::mixed_site());
    let guard = Ident::new("guard", Span::mixed_site());
    let first_value = has_first.then(|| quote!(#first_name,));
    let first_pattern = if has_first {
        quote!(#first_name)
    } else {
        quote!(())
    };
    let turbofish = turbofish(&sig.generics);
    let outer_generics = &sig.generics;
    let outer_where = &sig.generics.where_clause;
    // Spanned at what the handler returns, where a type that is no response is to be reported.
    let output = match &sig.output {
        syn::ReturnType::Type(_, output) => output.span(),
        syn::ReturnType::Default => name.span(),
    };
    let answer = quote_spanned! {output.resolved_at(Span::mixed_site())=>
        #krate::__private::into_response(#name #turbofish (#first_value #(#other_names),*).await)
    };

    quote! {
        #(#cfgs)*
        #[doc(hidden)]
        #[allow(non_camel_case_types, missing_debug_implementations)]
        #vis struct #ident #generics #fields #where_clause;

        #(#cfgs)*
        #[automatically_derived]
        impl #impl_generics #krate::RefreshPolicy for #ident #type_generics #where_clause {
            type User = #user;
            const POLICY: #krate::Policy = #policy;
        }

        #(#outer_attrs)*
        #vis async fn #name #outer_generics (
            #guard: #krate::Guarded<#path, #first>,
            #(#other_names: #others,)*
        ) -> #krate::__private::Response
        #outer_where
        {
            #(#attrs)*
            #sig #body

            let (#guard, #first_pattern) = #guard.into_parts();
            #guard.commit(#answer).await
        }
    }
}

/// The type that implements `RefreshPolicy` for one route.
struct Route {
    ident: Ident,
    /// The handler's type and const parameters, since `user = Type` may name them.
    generics: Generics,
    fields: Option<TokenStream>,
    /// How the handler's signature names it.
    path: TokenStream,
}

impl Route {
    fn new(handler: &Ident, generics: &Generics) -> Self {
        let ident = format_ident!("__SessionRefresh_{}", handler, span = Span::call_site());
        let mut generics = generics.clone();
        generics.params = generics
            .params
            .into_iter()
            .filter(|param| !matches!(param, GenericParam::Lifetime(_)))
            .collect();
        let types: Vec<_> = generics
            .type_params()
            .map(|param| param.ident.clone())
            .collect();
        let fields =
            (!types.is_empty()).then(|| quote!((#(::core::marker::PhantomData<fn() -> #types>),*)));
        let (_, type_generics, _) = generics.split_for_impl();
        let path = quote!(#ident #type_generics);
        Self {
            ident,
            fields,
            path,
            generics,
        }
    }
}

/// The policy as a constant expression: the named one, if any, and each word over it.
fn policy(args: &Args, krate: &Path) -> TokenStream {
    let mut policy = match &args.policy {
        Some(named) => quote_spanned!(named.span()=> #krate::__private::named_policy(#named)),
        None => quote!(#krate::Policy::new()),
    };
    match &args.interval {
        Some(Interval::Known(interval, span)) => {
            let seconds = i64::try_from(interval.as_secs()).unwrap_or(i64::MAX);
            let nanoseconds = i32::try_from(interval.subsec_nanos()).unwrap_or(0);
            policy.extend(quote_spanned!(*span=> .interval(#krate::__private::Duration::new(#seconds, #nanoseconds))));
        }
        Some(Interval::Constant(interval)) => {
            policy.extend(quote_spanned!(interval.span()=> .interval(#interval)));
        }
        None => {}
    }
    for (word, flag) in [
        ("skip_staff", &args.skip_staff),
        ("skip_superuser", &args.skip_superuser),
        ("skip_unauthenticated", &args.skip_unauthenticated),
    ] {
        if let Some(flag) = flag {
            let word = Ident::new(word, Span::call_site());
            policy.extend(quote!(.#word(#flag)));
        }
    }
    if let Some(paths) = &args.skip_paths {
        policy.extend(quote!(.skip_paths(&[#(#paths),*])));
    }
    if let Some(predicate) = &args.skip_if {
        policy.extend(quote_spanned!(predicate.span()=> .skip_if(#predicate)));
    }
    if let Some(key) = &args.key {
        policy.extend(quote!(.key(#key)));
    }
    policy
}

/// Of the attributes below ours, those that the outer function needs, too.
fn outer_attr(attr: &Attribute) -> Option<TokenStream> {
    const SHARED: [&str; 7] = [
        "doc",
        "cfg",
        "allow",
        "warn",
        "deny",
        "forbid",
        "deprecated",
    ];
    if SHARED.iter().any(|shared| attr.path().is_ident(shared)) {
        return Some(attr.to_token_stream());
    }
    // An expected lint fires in one of the two functions only; in the other, the expectation must not be missed.
    match &attr.meta {
        Meta::List(expected) if expected.path.is_ident("expect") => {
            let lints = &expected.tokens;
            Some(quote!(#[allow(#lints)]))
        }
        _ => None,
    }
}

/// `::<T, N>` for the call of the inner function. Lifetimes are inferred: they may be late bound.
fn turbofish(generics: &Generics) -> Option<TokenStream> {
    let arguments: Vec<_> = generics
        .params
        .iter()
        .filter_map(|param| match param {
            GenericParam::Type(param) => Some(&param.ident),
            GenericParam::Const(param) => Some(&param.ident),
            GenericParam::Lifetime(_) => None,
        })
        .collect();
    (!arguments.is_empty()).then(|| quote!(::<#(#arguments),*>))
}
