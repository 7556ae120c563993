#![doc = include_str!("front.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]
// Labels name features that users enable; `store` labels what several of them have in common.
#![cfg_attr(
    docsrs,
    doc(auto_cfg(hide(
        feature = "_encoded",
        feature = "_mysql",
        feature = "_postgres",
        feature = "_redis",
        feature = "_sql",
        feature = "_sqlite",
        feature = "_stores",
    )))
)]

#[cfg(not(any(feature = "tower-sessions-0_14", feature = "tower-sessions-0_15")))]
compile_error!(
    "session-refresh is built for no release of tower-sessions: enable its feature `tower-sessions-0_14` (a default) or \
     `tower-sessions-0_15`"
);

mod cache_headers;
#[cfg(feature = "config")]
mod config;
mod decide;
mod events;
mod extract;
pub mod guide;
#[cfg(feature = "keep-alive")]
pub mod keep_alive;
mod layer;
mod lifetime;
mod lifetimes;
mod metrics;
mod outcome;
mod policy;
mod report;
mod request;
mod schedule;
mod session;
mod session_lifetime;
mod spared_cookies;
mod stamping;
pub mod store;
#[cfg(feature = "testing")]
pub mod testing;
mod touching;
mod user;

#[cfg(feature = "config")]
pub use config::RefreshConfig;
pub use extract::{Decided, PendingStamp, ThenStamp};
pub use layer::{RefreshFuture, RefreshLayer, RefreshService};
pub use lifetimes::{LifetimeFuture, LifetimeLayer, LifetimeService};
pub use outcome::{Outcome, RefreshInfo, SkipReason};
pub use policy::{Policy, RefreshPolicy};
pub use report::PolicyReport;
pub use session_lifetime::SessionLifetime;
pub use user::{FromLayer, RouteUser, SessionUser, UserSource};

#[cfg(feature = "tower-sessions-0_14")]
pub use tower_sessions as tower_sessions_0_14;
#[cfg(feature = "tower-sessions-0_15")]
pub use tower_sessions_0_15;

#[doc = include_str!("attribute.md")]
pub use session_refresh_macros::session_refresh;

/// What the attribute's expansion calls. Not a public interface.
#[doc(hidden)]
pub mod __private {
    pub use axum::response::Response;
    pub use time::Duration;

    pub use crate::policy::Policy;
    use crate::user::UserSource;

    /// Its argument's type is what a named policy must be.
    pub const fn named_policy(policy: Policy) -> Policy {
        policy
    }

    /// Its bound is what a route's user must be where the router's state is known.
    pub const fn extracted<U: UserSource<S>, S>() {}
}
