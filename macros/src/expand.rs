//! The output: a policy type, and a function of the user's name around the user's function.

use proc_macro2::{Ident, Literal, Span, TokenStream, TokenTree};
use quote::{ToTokens, format_ident, quote, quote_spanned};
use syn::{
    Attribute, Expr, FnArg, GenericParam, Generics, ReturnType, Type, TypeParam, TypeParamBound,
    parse_quote, spanned::Spanned,
};

use crate::{
    args::{Args, Interval, Mistakes},
    handler::Handler,
};

pub(crate) fn expand(args: TokenStream, item: &TokenStream) -> TokenStream {
    let mistakes = Mistakes::default();
    let args = Args::parse(args, &mistakes);
    let handler = mistakes.catch(Handler::read(item.clone()));
    if let Some(handler) = &handler {
        handler.check(&mistakes);
    }
    match (handler, mistakes.into_compile_errors()) {
        (Some(handler), None) => refreshed(&args, &handler),
        // The item as it was: one mistake in the attribute must not make a missing handler of it, too.
        (_, errors) => quote!(#errors #item),
    }
}

fn refreshed(args: &Args, handler: &Handler) -> TokenStream {
    let krate = runtime(args, Span::call_site());
    let Handler {
        attrs,
        vis,
        sig,
        body,
    } = handler;
    let name = &sig.ident;
    let (outer_attrs, inner_attrs): (Vec<_>, Vec<_>) =
        attrs.iter().partition(|attr| covers_both(attr));

    let route = Route::new(name, &sig.generics);
    let policy = policy(args, &sig.generics);
    let user = args
        .user
        .as_ref()
        .map_or_else(|| quote!(#krate::FromLayer), ToTokens::to_token_stream);
    // Where a type is to be reported that is less visible than the handler.
    let at_user = args
        .user
        .as_ref()
        .map_or_else(Span::call_site, Spanned::span);
    let at_user = at_user.resolved_at(Span::mixed_site());
    // Where the state is known, so is whether the user can be extracted. At the route, axum would say it in its words.
    let extracted = handler
        .state()
        .filter(|_| args.user.is_some())
        .map(|state| {
            let krate = runtime(args, at_user);
            quote_spanned!(at_user=> const _: () = #krate::__private::extracted::<#user, #state>();)
        });
    let user = quote_spanned!(at_user=> type User = #user;);
    let Route {
        ident,
        params,
        fields,
        path,
        generics,
    } = &route;
    let (impl_generics, _, where_clause) = generics.split_for_impl();

    // The first argument carries the decision. One of the others would do as well, but a handler may have no other.
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
    let decided = Ident::new("decided", Span::mixed_site());
    let stamp = Ident::new("stamp", Span::mixed_site());
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
        ReturnType::Type(_, output) => output.span(),
        ReturnType::Default => name.span(),
    };
    let output = output.resolved_at(Span::mixed_site());
    let response = runtime(args, output);
    let response = quote_spanned!(output=> #response::__private::Response);
    let response = quote_spanned!(output=> impl ::core::future::Future<Output = #response>);

    // Clippy spares functions that are passed as values, as handlers are. The inner one is called.
    let unused_async = sig
        .asyncness
        .map(|_| quote!(#[allow(clippy::unused_async)]));

    quote! {
        #[doc(hidden)]
        #[allow(non_camel_case_types, missing_debug_implementations)]
        #vis struct #ident #params #fields;

        #[automatically_derived]
        impl #impl_generics #krate::RefreshPolicy for #path #where_clause {
            #user
            const POLICY: #krate::Policy = #policy;
        }

        #extracted

        #(#outer_attrs)*
        #vis fn #name #outer_generics (
            #decided: #krate::Decided<#path, #first>,
            #(#other_names: #others,)*
        ) -> #response
        #outer_where
        {
            #unused_async
            #(#inner_attrs)*
            #sig #body

            let (#stamp, #first_pattern) = #decided.into_parts();
            #stamp.after(#name #turbofish (#first_value #(#other_names),*))
        }
    }
}

/// The type that implements `RefreshPolicy` for one route.
struct Route {
    ident: Ident,
    /// The handler's type and const parameters, since `user = Type` may name them.
    params: Option<TokenStream>,
    fields: Option<TokenStream>,
    /// How the handler's signature names it.
    path: TokenStream,
    /// Those of the implementation.
    generics: Generics,
}

impl Route {
    fn new(handler: &Ident, generics: &Generics) -> Self {
        let ident = format_ident!("__SessionRefresh_{}", handler, span = Span::call_site());
        let types: Vec<_> = generics.type_params().map(|param| &param.ident).collect();
        let consts: Vec<_> = generics.const_params().collect();
        let params = generics.params.iter().filter_map(|param| match param {
            GenericParam::Type(TypeParam { ident, .. }) => {
                Some(quote!(#ident: ?::core::marker::Sized))
            }
            GenericParam::Const(param) => Some(param.to_token_stream()),
            GenericParam::Lifetime(_) => None,
        });
        let has_params = !types.is_empty() || !consts.is_empty();
        let params = has_params.then(|| quote!(<#(#params),*>));
        let fields =
            (!types.is_empty()).then(|| quote!((#(::core::marker::PhantomData<#types>),*)));

        let generics = of_policy(generics);
        let (_, arguments, _) = generics.split_for_impl();
        let path = quote!(#ident #arguments);
        Self {
            ident,
            params,
            fields,
            path,
            generics,
        }
    }
}

/// The handler's generics without its lifetimes, which a constant can't have; types live as long as the router.
fn of_policy(generics: &Generics) -> Generics {
    let lifetimes: Vec<_> = generics
        .lifetimes()
        .map(|param| param.lifetime.ident.clone())
        .collect();
    let mut generics = generics.clone();
    generics.params = generics
        .params
        .into_iter()
        .filter(|param| !matches!(param, GenericParam::Lifetime(_)))
        .collect();
    let types: Vec<_> = generics
        .type_params_mut()
        .map(|param| {
            param.bounds = std::mem::take(&mut param.bounds)
                .into_iter()
                .filter(|bound: &TypeParamBound| !mentions(bound.to_token_stream(), &lifetimes))
                .collect();
            param.ident.clone()
        })
        .collect();
    if let Some(clause) = &mut generics.where_clause {
        clause.predicates = std::mem::take(&mut clause.predicates)
            .into_iter()
            .filter(|predicate| !mentions(predicate.to_token_stream(), &lifetimes))
            .collect();
    }
    if !types.is_empty() {
        let clause = generics.make_where_clause();
        clause.predicates.extend(
            types
                .iter()
                .map(|ty| -> syn::WherePredicate { parse_quote!(#ty: 'static) }),
        );
    }
    generics
}

/// Whether one of `names` stands anywhere in `tokens`.
fn mentions(tokens: TokenStream, names: &[Ident]) -> bool {
    !names.is_empty()
        && tokens.into_iter().any(|token| match token {
            TokenTree::Ident(ident) => names.contains(&ident),
            TokenTree::Group(group) => mentions(group.stream(), names),
            _ => false,
        })
}

/// The path of the runtime.
fn runtime(args: &Args, span: Span) -> TokenStream {
    args.krate.as_ref().map_or_else(
        || quote_spanned!(span=> ::session_refresh),
        ToTokens::to_token_stream,
    )
}

/// The policy as a constant expression: the named one, if any, and each option over it.
fn policy(args: &Args, generics: &Generics) -> TokenStream {
    let krate = runtime(args, Span::call_site());
    let options = options(args);
    let policy = match (&args.policy, &args.interval) {
        (Some(named), _) if options.is_empty() => named.to_token_stream(),
        (Some(named), _) => {
            let span = named.span().resolved_at(Span::mixed_site());
            let krate = runtime(args, span);
            quote_spanned!(span=> #krate::__private::named_policy(#named))
        }
        // A mistake in the interval is reported where the expression begins that it makes impossible.
        (None, Some(Interval::Constant(interval))) => {
            let span = interval.span().resolved_at(Span::mixed_site());
            let krate = runtime(args, span);
            quote_spanned!(span=> #krate::Policy::new())
        }
        (None, _) => quote!(#krate::Policy::new()),
    };
    let policy = quote!(#policy #options);

    // The compiler evaluates a trait's constant only where it is used, but an item of its own always: a mistake is
    // seen even if the handler is never routed. An item can't name the handler's parameters, though.
    let is_computed = matches!(args.interval, Some(Interval::Constant(_)))
        || !matches!(args.policy, None | Some(Expr::Path(_)));
    if is_computed && !mentions(policy.clone(), &parameters(generics)) {
        let item = Ident::new("__SESSION_REFRESH", Span::mixed_site());
        quote!({
            const #item: #krate::Policy = #policy;
            #item
        })
    } else {
        policy
    }
}

/// Each option as a call of the policy's method.
fn options(args: &Args) -> TokenStream {
    let mut options = TokenStream::new();
    match &args.interval {
        Some(Interval::Known(interval, span)) => {
            let span = span.resolved_at(Span::mixed_site());
            let krate = runtime(args, span);
            let seconds = Literal::u64_unsuffixed(interval.as_secs());
            let duration = match interval.subsec_nanos() {
                0 => quote!(seconds(#seconds)),
                nanoseconds => {
                    let nanoseconds = Literal::u32_unsuffixed(nanoseconds);
                    quote!(new(#seconds, #nanoseconds))
                }
            };
            options
                .extend(quote_spanned!(span=> .interval(#krate::__private::Duration::#duration)));
        }
        Some(Interval::Constant(interval)) => {
            let span = interval.span().resolved_at(Span::mixed_site());
            options.extend(quote_spanned!(span=> .interval(#interval)));
        }
        None => {}
    }
    for (option, flag) in [
        ("passive", &args.passive),
        ("skip_staff", &args.skip_staff),
        ("skip_superuser", &args.skip_superuser),
        ("skip_unauthenticated", &args.skip_unauthenticated),
        ("skip_prefetch", &args.skip_prefetch),
    ] {
        if let Some(flag) = flag {
            let option = Ident::new(option, Span::call_site());
            options.extend(quote!(.#option(#flag)));
        }
    }
    if let Some(paths) = &args.skip_paths {
        options.extend(quote!(.skip_paths(&[#(#paths),*])));
    }
    if let Some(predicate) = &args.skip_if {
        let span = predicate.span().resolved_at(Span::mixed_site());
        options.extend(quote_spanned!(span=> .skip_if(#predicate)));
    }
    if let Some(key) = &args.key {
        options.extend(quote!(.key(#key)));
    }
    options
}

/// Documentation and lint levels belong to the function that others see, and there cover the one inside, too. (An
/// `#[expect]` on both would be missed in one of them.) `#[cfg]` never comes this far.
fn covers_both(attr: &Attribute) -> bool {
    const COVERING: [&str; 7] = [
        "doc",
        "allow",
        "warn",
        "deny",
        "forbid",
        "expect",
        "deprecated",
    ];
    COVERING.iter().any(|name| attr.path().is_ident(name))
}

/// `::<T, N>` for the call of the inner function. Lifetimes are inferred: they may be late bound.
fn turbofish(generics: &Generics) -> Option<TokenStream> {
    let arguments = parameters(generics);
    (!arguments.is_empty()).then(|| quote!(::<#(#arguments),*>))
}

/// The names of what is generic, but for lifetimes.
fn parameters(generics: &Generics) -> Vec<Ident> {
    generics
        .params
        .iter()
        .filter_map(|param| match param {
            GenericParam::Type(param) => Some(param.ident.clone()),
            GenericParam::Const(param) => Some(param.ident.clone()),
            GenericParam::Lifetime(_) => None,
        })
        .collect()
}
