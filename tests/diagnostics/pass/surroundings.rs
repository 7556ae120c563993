//! Names, visibilities and attributes around the handler.
#![deny(warnings, missing_docs, unreachable_pub, missing_debug_implementations)]
#![allow(clippy::non_minimal_cfg)]

use axum::{Router, routing::get};
use session_refresh::session_refresh;

mod inner {
    use session_refresh::session_refresh;

    /// Seen from outside under the crate's own name.
    #[session_refresh]
    pub(crate) async fn crate_visible() {}

    #[session_refresh]
    pub(super) async fn parent_visible() {}

    #[session_refresh]
    pub(in crate::surroundings::inner) async fn path_visible() {}

    pub(super) fn route() -> axum::routing::MethodRouter {
        axum::routing::get(path_visible)
    }

    #[allow(unreachable_pub)]
    pub mod deeper {
        /// Of the same name as another.
        #[session_refresh::session_refresh(skip_staff)]
        pub async fn crate_visible() {}
    }
}

pub use inner::deeper::crate_visible as reexported;

/// A module of the same name as the handler.
mod dashboard {
    pub(crate) const TITLE: &str = "";
}

#[session_refresh]
async fn dashboard() -> &'static str {
    dashboard::TITLE
}

#[cfg(all())]
#[session_refresh]
async fn cfg_above() {}

#[cfg(any())]
#[session_refresh]
async fn cfg_above() {}

#[session_refresh]
#[cfg(all())]
async fn cfg_below() {}

#[session_refresh]
#[cfg(any())]
async fn cfg_below() {}

#[session_refresh]
#[cfg_attr(all(), allow(unused_variables))]
#[cfg_attr(any(), nonsense)]
async fn cfg_attr(unused: axum::http::Uri) {}

#[session_refresh]
#[expect(unused_variables)]
async fn expect_below(unused: axum::http::Uri) {}

#[expect(unused_variables)]
#[session_refresh]
async fn expect_above(unused: axum::http::Uri) {}

#[session_refresh]
#[allow(unused_mut)]
async fn allow_below(#[allow(unused_variables)] mut unused: axum::http::Uri) {}

#[deprecated(note = "use `dashboard`")]
#[session_refresh]
async fn deprecated_above() {}

#[session_refresh]
#[deprecated]
async fn deprecated_below() {}

mod shadowed {
    #![allow(dead_code, unreachable_pub)]
    pub struct Result;
    pub struct Option;
    pub struct Send;
    pub struct Future;
    pub struct Response;
    pub struct String;
    pub struct Policy;
    pub struct Sized;
    pub struct Some;
    pub struct Ok;
    pub struct PhantomData;
    pub mod core {}
    pub mod std {}
    pub mod axum {}
    pub fn guard() {}
    pub const FIRST: u8 = 0;
    pub const POLICY: u8 = 0;

    use session_refresh::{RefreshInfo, session_refresh};

    #[session_refresh(interval = "1h", policy = super::SENSITIVE, skip_paths("/x/"))]
    pub async fn handler(first: RefreshInfo, guard: http::Method) -> &'static str {
        let _ = guard;
        first.outcome.as_str()
    }

    #[session_refresh]
    pub async fn generic<T>() {}
}

const SENSITIVE: session_refresh::Policy = session_refresh::Policy::new();

macro_rules! handler {
    ($(#[$attr:meta])* $vis:vis $name:ident, $interval:expr, $text:literal, $argument:ty, $body:block) => {
        $(#[$attr])*
        #[session_refresh(interval = $interval, key = $text, skip_paths($text), user = Option<$argument>)]
        $vis async fn $name(_: Option<$argument>) $body
    };
    ($item:item) => {
        #[session_refresh]
        $item
    };
}

handler!(
    /// Written by a macro.
    pub by_macro,
    "24h",
    "/k",
    session_refresh_tests_user::User,
    {}
);
handler!(
    async fn by_macro_as_item() {}
);

mod session_refresh_tests_user {
    /// As visible as the handler.
    #[allow(unreachable_pub)]
    #[derive(Debug)]
    pub struct User;

    impl session_refresh::SessionUser for User {}

    impl<S: Sync> axum::extract::OptionalFromRequestParts<S> for User {
        type Rejection = std::convert::Infallible;

        async fn from_request_parts(
            _: &mut axum::http::request::Parts,
            _: &S,
        ) -> Result<Option<Self>, Self::Rejection> {
            Ok(Some(Self))
        }
    }
}

/// Each of them goes to a router.
pub fn they_are_handlers() {
    let _: Router = Router::new()
        .route("/0", get(inner::crate_visible))
        .route("/1", get(inner::parent_visible))
        .route("/2", inner::route())
        .route("/3", get(reexported))
        .route("/4", get(dashboard))
        .route("/5", get(cfg_above))
        .route("/6", get(cfg_below))
        .route("/7", get(cfg_attr))
        .route("/8", get(expect_above))
        .route("/9", get(expect_below))
        .route("/10", get(allow_below))
        .route("/12", get(shadowed::handler))
        .route("/13", get(by_macro))
        .route("/14", get(by_macro_as_item))
        .route("/15", get(shadowed::generic::<u8>));
    #[allow(deprecated)]
    let _: Router = Router::new()
        .route("/0", get(deprecated_above))
        .route("/1", get(deprecated_below));
}
