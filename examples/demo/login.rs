//! Logging in and out, and what a page asks for that is not for everybody.

use axum::{
    Form,
    extract::{FromRequestParts, Query},
    http::{StatusCode, request::Parts},
    response::{IntoResponse, Redirect, Response},
};
use maud::{Markup, html};
use serde::Deserialize;
use session_refresh::SessionLifetime;
use tower_sessions::Expiry;

use crate::{
    app::{MAX_LIFETIME_OF_SUPERUSERS, REMEMBERED},
    failure::Failure,
    users::{Backend, Name, Role, USERS, User},
    view,
};

pub type AuthSession = axum_login::AuthSession<Backend>;

/// Somebody who is logged in; anybody else is sent to the login page.
pub struct LoggedIn(pub User);

impl<S: Send + Sync> FromRequestParts<S> for LoggedIn {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Response> {
        let auth = AuthSession::from_request_parts(parts, state)
            .await
            .map_err(IntoResponse::into_response)?;
        match auth.user {
            Some(user) => Ok(Self(user)),
            // By GET, unlike axum-login's `login_required!`: a form sent too late is no login form.
            None => Err(Redirect::to(&login_url(parts)).into_response()),
        }
    }
}

/// Somebody of the house.
pub struct Insider(pub User);

impl<S: Send + Sync> FromRequestParts<S> for Insider {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Response> {
        let LoggedIn(user) = LoggedIn::from_request_parts(parts, state).await?;
        if user.role == Role::Member {
            let text = html! { p { "This page is for staff members and superusers." } };
            return Err((StatusCode::FORBIDDEN, view::notice("Not for you", &text)).into_response());
        }
        Ok(Self(user))
    }
}

fn login_url(parts: &Parts) -> String {
    format!("/login?next={}", page_at(parts.uri.path()))
}

/// Where to go after a login: only ever a page of ours, whatever a link says.
fn page_at(path: &str) -> &'static str {
    ["/cart", "/reports", "/slow", "/staff", "/admin"]
        .into_iter()
        .find(|page| *page == path)
        .unwrap_or("/dashboard")
}

#[derive(Deserialize)]
pub struct LoginForm {
    #[serde(flatten)]
    name: Name,
    /// A ticked box is there, one that is not ticked is not.
    remember: Option<String>,
}

#[derive(Deserialize)]
pub struct Next {
    next: Option<String>,
}

impl Next {
    fn page(&self) -> &'static str {
        page_at(self.next.as_deref().unwrap_or_default())
    }
}

pub async fn form(auth: AuthSession, Query(next): Query<Next>) -> Response {
    let page = next.page();
    if auth.user.is_some() {
        return Redirect::to(page).into_response();
    }
    let body = html! {
        section.card.narrow { h1 { "Log in" } (accounts(page)) }
    };
    view::page("Log in", &body).into_response()
}

/// Logs in, and says how long the session lives: longer for whoever wants to be remembered, shorter for superusers.
pub async fn submit(
    mut auth: AuthSession,
    lifetime: SessionLifetime,
    Query(next): Query<Next>,
    Form(form): Form<LoginForm>,
) -> Result<Response, Failure> {
    let Some(user) = auth.authenticate(form.name).await? else {
        let text =
            html! { p { "There is no such account. " a href="/login" { "Choose one" } "." } };
        let page = view::notice("Not logged in", &text);
        return Ok((StatusCode::UNPROCESSABLE_ENTITY, page).into_response());
    };
    auth.login(&user).await?;
    if form.remember.is_some() {
        auth.session
            .set_expiry(Some(Expiry::OnInactivity(REMEMBERED)));
    }
    lifetime.restart();
    if user.role == Role::Superuser {
        lifetime.set_max_lifetime(Some(MAX_LIFETIME_OF_SUPERUSERS));
    }
    Ok(Redirect::to(next.page()).into_response())
}

pub async fn logout(mut auth: AuthSession) -> Result<Redirect, Failure> {
    auth.logout().await?;
    Ok(Redirect::to("/login"))
}

/// One click for each account, which leads to `page`.
pub fn accounts(page: &str) -> Markup {
    html! {
        form method="post" action={ "/login?next=" (page) } {
            label.box { input #remember name="remember" type="checkbox"; " Remember me for " (REMEMBERED.whole_minutes()) " minutes" }
            ul.accounts {
                @for user in USERS {
                    li {
                        span { strong { (user.name) } " " small { (user.role) } }
                        button.primary name="name" value=(user.name) { "Log in as " (user.name) }
                    }
                }
            }
        }
    }
}
