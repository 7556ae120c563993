//! Logging in and out, and what a page asks for that is not for everybody.

use axum::{
    Form,
    extract::{FromRequestParts, Query},
    http::{StatusCode, request::Parts},
    response::{IntoResponse, Redirect, Response},
};
use maud::html;
use serde::Deserialize;
use session_refresh::SessionLifetime;
use tower_sessions::Expiry;

use crate::{
    app::{MAX_LIFETIME_OF_SUPERUSERS, REMEMBERED},
    failure::Failure,
    users::{ACCOUNTS, Backend, Credentials, Role, User},
    view::{self, Page},
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
    match page_at(parts.uri.path()) {
        "/" => String::from("/login"),
        page => format!("/login?next={page}"),
    }
}

/// Where to go after a login: only ever a page of ours, whatever a link says.
fn page_at(path: &str) -> &'static str {
    ["/cart", "/reports", "/slow", "/staff", "/admin"]
        .into_iter()
        .find(|page| *page == path)
        .unwrap_or("/")
}

#[derive(Deserialize)]
pub struct LoginForm {
    #[serde(flatten)]
    credentials: Credentials,
    /// A ticked box is there, one that is not ticked is not.
    remember: Option<String>,
}

#[derive(Deserialize)]
pub struct Next {
    next: Option<String>,
}

impl Next {
    fn page(&self) -> &'static str {
        page_at(self.next.as_deref().unwrap_or("/"))
    }
}

pub async fn form(auth: AuthSession, Query(next): Query<Next>) -> Response {
    if auth.user.is_some() {
        return Redirect::to(next.page()).into_response();
    }
    login_page(&next, "", false).into_response()
}

/// Logs in, and says how long the session lives: longer for whoever wants to be remembered, shorter for superusers.
pub async fn submit(
    mut auth: AuthSession,
    lifetime: SessionLifetime,
    Query(next): Query<Next>,
    Form(form): Form<LoginForm>,
) -> Result<Response, Failure> {
    let name = form.credentials.name.clone();
    match auth.authenticate(form.credentials).await? {
        Some(user) => {
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
        None => Ok((
            StatusCode::UNPROCESSABLE_ENTITY,
            login_page(&next, &name, true),
        )
            .into_response()),
    }
}

pub async fn logout(mut auth: AuthSession) -> Result<Redirect, Failure> {
    auth.logout().await?;
    Ok(Redirect::to("/login"))
}

fn login_page(next: &Next, name: &str, failed: bool) -> Page {
    view::page(
        "Log in",
        &html! {
            section.card.narrow {
                h1 { "Log in" }
                @if failed {
                    p.error role="alert" { "That name and password do not belong together." }
                }
                form method="post" action={ "/login?next=" (next.page()) } {
                    label for="name" { "Name" }
                    input #name name="name" value=(name) required autocomplete="username" autofocus;
                    label for="password" { "Password" }
                    input #password name="password" type="password" required autocomplete="current-password";
                    label.box { input #remember name="remember" type="checkbox"; " Remember me for " (REMEMBERED.whole_minutes()) " minutes" }
                    button.primary { "Log in" }
                }
            }
            section.card.narrow {
                h2 { "Accounts to try" }
                ul.accounts {
                    @for account in ACCOUNTS {
                        li {
                            span { strong { (account.name) } " " small { (account.role) } br; code { (account.password) } }
                            button type="button" data-name=(account.name) data-password=(account.password) { "Fill in" }
                        }
                    }
                }
            }
        },
    )
}
