//! The pages: one policy each. The attributes here are what the demo is about.

use std::time::Duration as StdDuration;

use maud::html;
use session_refresh::{Policy, RefreshInfo, session_refresh};
use time::Duration;
use tower_sessions::Session;

use crate::{
    app::{MAX_LIFETIME, MAX_LIFETIME_OF_SUPERUSERS, REMEMBERED, SESSION_LIFETIME},
    cart::Cart,
    failure::Failure,
    login::{Insider, LoggedIn},
    view::{Page, member_page},
};

/// A policy with a name, for all pages on which a forgotten session would do harm.
const SENSITIVE: Policy = Policy::every(Duration::seconds(15)).skip_superuser(true);

#[session_refresh(interval = "10s")]
pub async fn dashboard(refresh: RefreshInfo, LoggedIn(user): LoggedIn) -> Page {
    let body = html! {
        section.card {
            h2 { "Hello, " (user.name) }
            p { "Your session ends " (SESSION_LIFETIME.whole_seconds()) " seconds after it was last extended, or "
                (REMEMBERED.whole_minutes()) " minutes after if you are remembered, and " (MAX_LIFETIME.whole_minutes())
                " minutes after your login at the latest (a superuser's " (MAX_LIFETIME_OF_SUPERUSERS.whole_minutes())
                " minutes after). Visits to this page extend it, at most once in ten seconds. Try it:" }
            ol {
                li { "Reload now: " em { "not due" } ", and the countdown goes on." }
                li { "Reload ten seconds after the last refresh: " em { "refreshed" }
                    ", and the countdown starts again." }
                li { "Leave the page open. The script goes on asking, but that keeps nothing alive: a minute before the end "
                    "you are warned, and can stay." }
                li { "Log in as stella or root, and open " em { "Staff area" } " and " em { "Admin" } ": one of them leaves you alone." }
            }
            p { "All pages share one time of the last refresh; each has its own interval." }
        }
    };
    member_page(
        "Dashboard",
        &user,
        r#"#[session_refresh(interval = "10s")]"#,
        &refresh,
        &body,
    )
}

#[session_refresh(policy = SENSITIVE)]
pub async fn reports(refresh: RefreshInfo, LoggedIn(user): LoggedIn) -> Page {
    let body = html! {
        section.card {
            h2 { "Figures of the quarter" }
            table {
                thead { tr { th scope="col" { "Month" } th scope="col" { "Orders" } th scope="col" { "Returns" } } }
                tbody {
                    @for (month, orders, returns) in [("July", 412, 9), ("August", 388, 14), ("September", 451, 7)] {
                        tr { th scope="row" { (month) } td { (orders) } td { (returns) } }
                    }
                }
            }
            p { "Governed by a policy with a name: at most once in 15 seconds, and not for superusers. A browser that "
                "fetches a page in advance extends nothing, here and elsewhere." }
        }
    };
    member_page(
        "Reports",
        &user,
        "#[session_refresh(policy = SENSITIVE)]",
        &refresh,
        &body,
    )
}

#[session_refresh(interval = "1s", skip_staff)]
pub async fn staff(refresh: RefreshInfo, Insider(user): Insider) -> Page {
    let body = html! {
        section.card {
            h2 { "Shift plan" }
            p { "This page stays open on a shared screen all day. It reloads often, and must not keep a staff member "
                "logged in who went home: " code { "skip_staff" } "." }
            p { "A superuser's session is refreshed here, at most once a second." }
        }
    };
    let attribute = r#"#[session_refresh(interval = "1s", skip_staff)]"#;
    member_page("Staff area", &user, attribute, &refresh, &body)
}

#[session_refresh(interval = "1s", skip_superuser)]
pub async fn admin(refresh: RefreshInfo, Insider(user): Insider) -> Page {
    let body = html! {
        section.card {
            h2 { "Administration" }
            p { "Who may do everything should not stay logged in by habit: " code { "skip_superuser" } "." }
            p { "A staff member's session is refreshed here, at most once a second." }
        }
    };
    let attribute = r#"#[session_refresh(interval = "1s", skip_superuser)]"#;
    member_page("Admin", &user, attribute, &refresh, &body)
}

#[session_refresh(interval = "5s")]
pub async fn slow(
    refresh: RefreshInfo,
    LoggedIn(user): LoggedIn,
    session: Session,
) -> Result<Page, Failure> {
    let before = Cart::of(&session).await?.count();
    tokio::time::sleep(StdDuration::from_secs(5)).await;
    let body = html! {
        section.card {
            h2 { "That took five seconds" }
            p { "Things in your cart when this page was asked for: " strong #cart-before { (before) }
                ". The number beside " em { "Cart" } " above says how many there are now." }
            p { "What you added meanwhile in another tab is still there: a refresh happens when the request arrives, "
                "and moves only the time at which the session ends. It never writes the cart." }
            p { a href="/cart" { "Look into the cart" } }
        }
    };
    Ok(member_page(
        "Slow page",
        &user,
        r#"#[session_refresh(interval = "5s")]"#,
        &refresh,
        &body,
    ))
}
