//! Every word, in every form in which it may be written.
#![deny(warnings)]

use axum::{
    Router, extract::FromRequestParts, http::StatusCode, http::request::Parts, routing::get,
};
use session_refresh::{Policy, SessionUser, session_refresh};
use time::Duration;

struct User;

impl SessionUser for User {}

impl<S: Sync> FromRequestParts<S> for User {
    type Rejection = StatusCode;

    async fn from_request_parts(_: &mut Parts, _: &S) -> Result<Self, StatusCode> {
        Ok(Self)
    }
}

const SENSITIVE: Policy = Policy::every(Duration::MINUTE);

mod policies {
    pub const SENSITIVE: session_refresh::Policy = session_refresh::Policy::new();
    pub struct Of;
    impl Of {
        pub const ALL: session_refresh::Policy = super::SENSITIVE;
    }
    pub fn skips(_: &axum::http::request::Parts) -> bool {
        true
    }
}

trait Skip {
    fn skips(parts: &Parts) -> bool;
}
impl Skip for User {
    fn skips(_: &Parts) -> bool {
        true
    }
}
fn skips<T>(_: &Parts) -> bool {
    true
}

mod renamed {
    pub use session_refresh as refresh;
}

#[session_refresh(
    interval = "1day 2h",
    skip_staff,
    skip_superuser = true,
    skip_unauthenticated = false,
    skip_paths("/static/", "/media/",),
    skip_if = policies::skips,
    user = Result<User, StatusCode>,
    policy = SENSITIVE,
    key = "refreshed_at",
    crate = renamed::refresh,
)]
async fn every_word() {}

#[session_refresh(interval = 3600)]
async fn seconds() {}

#[session_refresh(interval = 3_600u32)]
async fn seconds_with_suffix() {}

#[session_refresh(interval = "500ms")]
async fn less_than_a_second() {}

#[session_refresh(interval = Duration::HOUR)]
async fn constant() {}

#[session_refresh(interval = { const HOURS: i64 = 2; Duration::hours(HOURS) })]
async fn block() {}

#[session_refresh(policy = policies::SENSITIVE)]
async fn policy_of_module() {}

#[session_refresh(policy = policies::Of::ALL, interval = r"5m")]
async fn policy_of_type() {}

const POLICY: Policy = SENSITIVE;

#[session_refresh(policy = POLICY, interval = Duration::HOUR)]
async fn policy_of_that_name() {}

#[session_refresh(policy = Policy::new().skip_staff(true), user = User)]
async fn policy_in_place() {}

#[session_refresh(user = User, skip_if = <User as Skip>::skips)]
async fn qualified() {}

#[session_refresh(skip_if = skips::<u8>, skip_staff = false)]
async fn turbofish() {}

#[session_refresh(user = U, skip_superuser)]
async fn user_by_parameter<U: SessionUser>() {}

/// Each of them goes to a router.
pub fn they_are_handlers() {
    let _: Router = Router::new()
        .route("/0", get(every_word))
        .route("/1", get(seconds))
        .route("/12", get(policy_of_that_name))
        .route("/2", get(seconds_with_suffix))
        .route("/3", get(less_than_a_second))
        .route("/4", get(constant))
        .route("/5", get(block))
        .route("/6", get(policy_of_module))
        .route("/7", get(policy_of_type))
        .route("/8", get(policy_in_place))
        .route("/9", get(qualified))
        .route("/10", get(turbofish))
        .route("/11", get(user_by_parameter::<User>));
}
