//! The cart: data that lives in the session, and that no refresh may lose.

use std::collections::BTreeMap;

use axum::{Form, response::Redirect};
use maud::html;
use serde::{Deserialize, Serialize};
use session_refresh::{RefreshInfo, session_refresh};
use tower_sessions::{Session, session};

use crate::{
    failure::Failure,
    login::LoggedIn,
    view::{Page, member_page},
};

const KEY: &str = "cart";

const PRODUCTS: [&str; 4] = ["Tea & biscuits", "Notebook", "Lamp", "Headphones"];

/// How many there are of what.
#[derive(Default, Deserialize, Serialize)]
#[serde(transparent)]
pub struct Cart(BTreeMap<String, u32>);

impl Cart {
    pub async fn of(session: &Session) -> Result<Self, session::Error> {
        Ok(session.get(KEY).await?.unwrap_or_default())
    }

    pub fn count(&self) -> u32 {
        self.0.values().sum()
    }
}

#[derive(Deserialize)]
pub struct Choice {
    product: String,
}

#[session_refresh(interval = "5s")]
pub async fn show(
    refresh: RefreshInfo,
    LoggedIn(user): LoggedIn,
    session: Session,
) -> Result<Page, Failure> {
    let cart = Cart::of(&session).await?;
    let body = html! {
        section.card {
            h2 { "In your cart" }
            @if cart.0.is_empty() { p { "Nothing yet." } }
            ul.products #cart-items {
                @for (product, count) in &cart.0 {
                    li { span { (count) " × " (product) } (button("/cart/remove", "Remove", product)) }
                }
            }
        }
        section.card {
            h2 { "On the shelf" }
            ul.products {
                @for product in PRODUCTS {
                    li { span { (product) } (button("/cart/add", "Add", product)) }
                }
            }
            p { "Open the " a href="/slow" target="_blank" { "slow page in another tab" }
                " and add something here while it loads: it will not get lost." }
            p.muted { "Adding and removing writes the session, and each write extends it, with or without a policy." }
        }
    };
    Ok(member_page(
        "Cart",
        &user,
        r#"#[session_refresh(interval = "5s")]"#,
        &refresh,
        &body,
    ))
}

fn button(action: &str, text: &str, product: &str) -> maud::Markup {
    html! {
        form method="post" action=(action) {
            button name="product" value=(product) aria-label={ (text) " " (product) } { (text) }
        }
    }
}

pub async fn add(
    _: LoggedIn,
    session: Session,
    Form(choice): Form<Choice>,
) -> Result<Redirect, Failure> {
    if PRODUCTS.contains(&choice.product.as_str()) {
        let mut cart = Cart::of(&session).await?;
        *cart.0.entry(choice.product).or_default() += 1;
        session.insert(KEY, cart).await?;
    }
    Ok(Redirect::to("/cart"))
}

pub async fn remove(
    _: LoggedIn,
    session: Session,
    Form(choice): Form<Choice>,
) -> Result<Redirect, Failure> {
    let mut cart = Cart::of(&session).await?;
    if cart.0.remove(&choice.product).is_some() {
        session.insert(KEY, cart).await?;
    }
    Ok(Redirect::to("/cart"))
}
