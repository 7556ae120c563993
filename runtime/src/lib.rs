#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod engine;
mod extract;
mod info;
mod layer;
mod policy;
mod record;
mod schedule;
mod session;
pub mod store;
mod user;

pub use extract::{Commit, Guard, Guarded};
pub use info::{Outcome, RefreshInfo, SkipReason};
pub use layer::{RefreshFuture, RefreshLayer, RefreshService};
pub use policy::{Policy, RefreshPolicy};
pub use user::{FromLayer, Identity, RouteUser, SessionUser, UserSource};

/// Every event of this crate has this target.
const TARGET: &str = "session_refresh";

/// The release of tower-sessions that this crate is built on: take `Session` and `SessionManagerLayer` from here, or
/// from the same release.
pub use tower_sessions;

#[doc = include_str!("attribute.md")]
pub use session_refresh_macros::session_refresh;

/// What the attribute's expansion calls. Not a public interface.
#[doc(hidden)]
pub mod __private {
    pub use axum::response::Response;
    pub use time::Duration;

    pub use crate::policy::Policy;

    /// Its argument's type is what a named policy must be.
    pub const fn named_policy(policy: Policy) -> Policy {
        policy
    }

    /// A function rather than a method, so that a handler whose answer is no response is told so in axum's words.
    pub fn into_response(answer: impl axum::response::IntoResponse) -> Response {
        answer.into_response()
    }
}
