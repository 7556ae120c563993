//! How a page looks: the frame around each, and the panel that tells what became of the session.

use axum::http::{HeaderName, header};
use maud::{DOCTYPE, Markup, html};
use session_refresh::{Outcome, RefreshInfo, SkipReason};
use time::{OffsetDateTime, format_description::well_known::Rfc3339, macros::format_description};

use crate::{
    app::SESSION_LIFETIME,
    users::{Role, User},
};

/// Never stored, so that Back shows nothing after a logout, and with no scripts and styles but this application's.
pub type Page = ([(HeaderName, &'static str); 2], Markup);

const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
    img-src data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'";

/// A page for anybody.
pub fn page(title: &str, body: &Markup) -> Page {
    frame(title, None, body)
}

/// A page that says one thing.
pub fn notice(title: &str, text: &Markup) -> Page {
    let body = html! {
        section.card.narrow { h1 { (title) } (text) p { a href="/dashboard" { "Go to the dashboard" } } }
    };
    page(title, &body)
}

/// A page of somebody who is logged in. `attribute` is the one on its handler.
pub fn member_page(
    title: &str,
    user: &User,
    attribute: &str,
    refresh: &RefreshInfo,
    body: &Markup,
) -> Page {
    let body = html! {
        header.title { h1 { (title) } code.attribute { (attribute) } }
        div.columns {
            div { (body) }
            aside { (session_panel(refresh)) }
        }
    };
    frame(title, Some(user), &body)
}

fn frame(title: &str, user: Option<&User>, body: &Markup) -> Page {
    let html = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (title) " · session-refresh" }
                link rel="stylesheet" href="/static/demo.css";
                link rel="icon" href="data:,";
                script src="/static/demo.js" defer {}
                script src="/static/compare.js" defer {}
                script type="module" src="/keep-alive/keep-alive.js" {}
            }
            body {
                nav aria-label="Pages" {
                    a.brand href="/" { "session-refresh" }
                    @if let Some(user) = user { (links(title, user)) }
                }
                main { (body) }
                @if user.is_some() {
                    session-keep-alive sign-out="/logout" sign-in="/login" {}
                }
            }
        }
    };
    let headers = [
        (header::CACHE_CONTROL, "no-store"),
        (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
    ];
    (headers, html)
}

fn links(title: &str, user: &User) -> Markup {
    let insider = user.role != Role::Member;
    html! {
        div.links {
            @for (href, text, shown) in [
                ("/dashboard", "Dashboard", true),
                ("/cart", "Cart", true),
                ("/reports", "Reports", true),
                ("/slow", "Slow page", true),
                ("/staff", "Staff area", insider),
                ("/admin", "Admin", insider),
            ] {
                @if shown {
                    a href=(href) aria-current=[(text == title).then_some("page")] {
                        (text)
                        @if href == "/cart" { " " span.badge id="cart-count" hidden {} }
                    }
                }
            }
        }
        form.user method="post" action="/logout" {
            span { strong { (user.name) } " " small { (user.role) } }
            button { "Log out" }
        }
    }
}

fn session_panel(refresh: &RefreshInfo) -> Markup {
    let (class, headline, why) = describe(refresh.outcome);
    let lifetime = SESSION_LIFETIME.whole_seconds();
    html! {
        section.card aria-labelledby="session" {
            h2 #session { "Your session" }
            p #countdown role="timer" { "…" }
            progress #remaining max=(lifetime) value=(lifetime) aria-label="Time left" {}
            p.muted #poll {
                "A script asks " code { "/status" } " every few seconds."
            }
        }
        section.card aria-labelledby="refresh" {
            h2 #refresh { "What the handler was told" }
            p { span class={ "outcome " (class) } { (headline) } }
            p.muted { (why) }
            dl {
                dt { code { "refreshed" } } dd { (refresh.refreshed) }
                dt { code { "refreshed_at" } } dd { (clock(refresh.refreshed_at)) }
                dt { code { "expires_at" } } dd { (clock(refresh.expires_at)) }
                dt { code { "ends_at" } } dd { (clock(refresh.ends_at)) }
                dt { code { "outcome" } } dd { (refresh.outcome) }
            }
        }
    }
}

fn describe(outcome: Outcome) -> (&'static str, &'static str, &'static str) {
    match outcome {
        Outcome::Refreshed => (
            "good",
            "Refreshed",
            "This request has extended the session: the store has its new end, and the answer its cookie.",
        ),
        Outcome::NotDue => (
            "calm",
            "Not due",
            "Refreshed less than an interval ago: nothing was written.",
        ),
        Outcome::Skipped(SkipReason::Staff) => (
            "warn",
            "Skipped: staff",
            "This page leaves sessions of staff members alone.",
        ),
        Outcome::Skipped(SkipReason::Superuser) => (
            "warn",
            "Skipped: superuser",
            "This page leaves sessions of superusers alone.",
        ),
        Outcome::Skipped(_) => (
            "warn",
            "Skipped",
            "The policy leaves this request's session alone.",
        ),
        // `Outcome` grows: what is new is no reason to stop showing pages.
        _ => ("bad", "Not refreshed", "The session could not be extended."),
    }
}

/// In UTC; the script shows it in the reader's time zone.
fn clock(at: Option<OffsetDateTime>) -> Markup {
    let machine = at.and_then(|at| at.format(&Rfc3339).ok());
    let human = at.and_then(|at| {
        at.format(format_description!("[hour]:[minute]:[second] UTC"))
            .ok()
    });
    html! {
        @if let (Some(machine), Some(human)) = (machine, human) {
            time datetime=(machine) { (human) }
        } @else {
            "unknown"
        }
    }
}
