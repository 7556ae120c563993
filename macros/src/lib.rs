//! The attribute of [`session-refresh`](https://docs.rs/session-refresh), documented at length on its re-export
//! `session_refresh::session_refresh`, where doctests can see the runtime.

mod args;
mod expand;
mod handler;
#[cfg(test)]
mod tests;

use proc_macro::TokenStream;

// Editors show this one on hover, not the re-export's. rustdoc shows both, this one last.
/// # At a glance
///
/// Keeps the session of a handler's user alive: extends it when the request arrives, at most once per interval.
///
/// ```text
/// #[session_refresh(interval = "24h", skip_superuser)]
/// async fn dashboard(refresh: RefreshInfo) -> Html<String> { .. }
/// ```
///
/// | word | meaning | default |
/// |---|---|---|
/// | `interval = "24h"` | extends at most once in that time: a string, seconds, or a constant `time::Duration` | 24 hours |
/// | `passive` | extends nothing, whatever the handler reads or writes; `RefreshInfo` tells the end | no |
/// | `skip_staff` | leaves sessions of staff alone | no |
/// | `skip_superuser` | leaves sessions of superusers alone | no |
/// | `skip_unauthenticated = false` | extends sessions in which nobody is logged in, too | skipped |
/// | `skip_prefetch = false` | counts what the browser fetches in advance as activity, too | skipped |
/// | `skip_paths("/static/", ..)` | leaves sessions alone where the client's path begins so | none |
/// | `skip_if = predicate` | the same where a `fn(&http::request::Parts) -> bool` says so | none |
/// | `user = CurrentUser` | the extractor that says who the user is | the `RefreshLayer`'s |
/// | `policy = SENSITIVE` | begins with a constant `Policy`; the other words override it | |
/// | `key = ".."` | where a plain store keeps the time of the last refresh | `session_refresh.refreshed_at` |
/// | `crate = path` | where the crate `session-refresh` is, if renamed | `::session_refresh` |
#[proc_macro_attribute]
pub fn session_refresh(args: TokenStream, item: TokenStream) -> TokenStream {
    expand::expand(args.into(), &item.into()).into()
}
