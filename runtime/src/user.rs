//! Who is asking.

use std::{pin::Pin, sync::Arc};

use axum::{
    Extension,
    extract::FromRequestParts,
    response::{IntoResponse as _, Response},
};
use http::request::Parts;

/// What a policy may ask about a user.
///
/// Implement it on your user, or on the extractor that yields it:
///
/// ```
/// use session_refresh::SessionUser;
///
/// struct User {
///     role: Role,
/// }
/// # #[derive(PartialEq)]
/// enum Role {
///     Member,
///     Admin,
/// }
///
/// impl SessionUser for User {
///     fn is_superuser(&self) -> bool {
///         self.role == Role::Admin
///     }
/// }
///
/// assert!(User { role: Role::Admin }.is_superuser());
/// let member = User { role: Role::Member };
/// assert!(member.is_authenticated() && !member.is_staff() && !member.is_superuser());
/// assert!(!None::<User>.is_authenticated());
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not say who the user is",
    label = "not a `SessionUser`",
    note = "implement `session_refresh::SessionUser` for it; with axum-login, enable the feature `axum-login-0_18` and implement it for `AuthnBackend::User`"
)]
pub trait SessionUser {
    /// Whether somebody is logged in. Default: yes, since there is a user.
    fn is_authenticated(&self) -> bool {
        true
    }

    /// Whether the user belongs to the staff. Default: no.
    fn is_staff(&self) -> bool {
        false
    }

    /// Whether the user may do everything. Default: no.
    fn is_superuser(&self) -> bool {
        false
    }
}

/// Forwards to the user inside, `$user` of `$this`.
macro_rules! forward {
    ($(#[$attr:meta])* [$($generics:tt)*] $type:ty: |$this:ident| $user:expr) => {
        $(#[$attr])*
        impl<$($generics)*> SessionUser for $type {
            fn is_authenticated(&self) -> bool {
                let $this = self;
                $user.is_some_and(SessionUser::is_authenticated)
            }

            fn is_staff(&self) -> bool {
                let $this = self;
                $user.is_some_and(SessionUser::is_staff)
            }

            fn is_superuser(&self) -> bool {
                let $this = self;
                $user.is_some_and(SessionUser::is_superuser)
            }
        }
    };
}

forward!([U: SessionUser + ?Sized] &U: |this| Some(*this));
forward!([U: SessionUser + ?Sized] Arc<U>: |this| Some(&**this));
forward!([U: SessionUser + ?Sized] Box<U>: |this| Some(&**this));
forward!([U: SessionUser] Extension<U>: |this| Some(&this.0));
forward!(
    /// `None`: nobody is logged in.
    [U: SessionUser] Option<U>: |this| this.as_ref()
);
forward!(
    /// `Err`: nobody is logged in.
    [U: SessionUser, E] Result<U, E>: |this| this.as_ref().ok()
);
forward!(
    #[cfg(feature = "axum-login-0_18")]
    [B: axum_login::AuthnBackend<User: SessionUser>] axum_login::AuthSession<B>: |this| this.user.as_ref()
);

/// A [`SessionUser`]'s answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    pub(crate) is_authenticated: bool,
    pub(crate) is_staff: bool,
    pub(crate) is_superuser: bool,
}

impl Identity {
    fn of(user: &impl SessionUser) -> Self {
        Self {
            is_authenticated: user.is_authenticated(),
            is_staff: user.is_staff(),
            is_superuser: user.is_superuser(),
        }
    }
}

/// What an attribute's `user = Type` may be: a [`SessionUser`], or [`FromLayer`] where the route does not name one.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not say who the user is",
    label = "not a `SessionUser`",
    note = "implement `session_refresh::SessionUser` for it; with axum-login, enable the feature `axum-login-0_18` and implement it for `AuthnBackend::User`"
)]
pub trait RouteUser: Named + 'static {}

impl<U: SessionUser + 'static> RouteUser for U {}

/// The route leaves it to the [`RefreshLayer`](crate::RefreshLayer) who the user is.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct FromLayer;

impl RouteUser for FromLayer {}

/// How a [`RouteUser`] is found in a request: an extractor for the router's state, or the layer's user source.
#[diagnostic::on_unimplemented(
    message = "`{Self}` can't be extracted from a request with state `{S}`",
    note = "`user = {Self}` needs an extractor: implement `axum::extract::FromRequestParts<{S}>` for it"
)]
pub trait UserSource<S>: RouteUser + Identify<S> {}

impl<S, U: RouteUser + Identify<S>> UserSource<S> for U {}

/// Seals [`RouteUser`].
pub trait Named {
    /// Whether the route itself says where the user comes from.
    const NAMED: bool;
}

impl<U: SessionUser + 'static> Named for U {
    const NAMED: bool = true;
}

impl Named for FromLayer {
    const NAMED: bool = false;
}

/// Seals [`UserSource`].
pub trait Identify<S> {
    /// Looks the user up. A rejection with a 5xx is a failure; any other means that nobody is logged in.
    fn identify(
        parts: &mut Parts,
        state: &S,
    ) -> impl Future<Output = Result<Identity, Response>> + Send;
}

impl<S, U> Identify<S> for U
where
    S: Send + Sync,
    U: SessionUser + FromRequestParts<S> + 'static,
{
    async fn identify(parts: &mut Parts, state: &S) -> Result<Identity, Response> {
        match U::from_request_parts(parts, state).await {
            Ok(user) => Ok(Identity::of(&user)),
            Err(rejection) => Err(rejection.into_response()),
        }
    }
}

/// The look-up of a [`RefreshLayer`](crate::RefreshLayer), its extractor's type forgotten.
#[derive(Clone)]
pub(crate) struct LayerUser(Arc<LookUp>);

type LookUp = dyn for<'a> Fn(&'a mut Parts) -> IdentityFuture<'a> + Send + Sync;

type IdentityFuture<'a> = Pin<Box<dyn Future<Output = Result<Identity, Response>> + Send + 'a>>;

impl LayerUser {
    pub(crate) fn new<U, S>(state: S) -> Self
    where
        U: UserSource<S>,
        S: Send + Sync + 'static,
    {
        let state = Arc::new(state);
        Self(Arc::new(move |parts| {
            let state = Arc::clone(&state);
            Box::pin(async move { U::identify(parts, &state).await })
        }))
    }

    pub(crate) fn identify<'a>(&self, parts: &'a mut Parts) -> IdentityFuture<'a> {
        (self.0)(parts)
    }
}
