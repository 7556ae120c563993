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
/// Keeps the session of a handler's user alive: refreshes it when the request arrives, at most once per interval.
///
/// ```text
/// #[session_refresh(interval = "24h", skip_superuser)]
/// async fn dashboard(refresh: RefreshInfo) -> Html<String> { .. }
/// ```
///
/// | option | effect | default |
/// |---|---|---|
/// | `interval = "24h"` | refreshes at most once in that time: a string, seconds, or a constant `time::Duration` | 24 hours |
/// | `passive` | never extends the session, whatever the handler reads or writes | `false` |
/// | `skip_staff` | does not refresh sessions of staff | `false` |
/// | `skip_superuser` | does not refresh sessions of superusers | `false` |
/// | `skip_unauthenticated = false` | refreshes sessions in which nobody is logged in, too; so it is where nothing says who the user is | `true` |
/// | `skip_prefetch = false` | pages that the browser fetches in advance extend the session, too | `true` |
/// | `skip_paths("/static/", ..)` | skips requests whose path begins with one of these | none |
/// | `skip_if = predicate` | skips requests for which this `fn(&http::request::Parts) -> bool` returns `true` | none |
/// | `user = CurrentUser` | the extractor that says who the user is | the `RefreshLayer`'s |
/// | `policy = SENSITIVE` | a constant `Policy` to start from; the other options override it | |
/// | `key = ".."` | the session key of the last refresh's time, without a `LifetimeLayer` | `session_refresh.refreshed_at` |
/// | `crate = path` | where the crate `session-refresh` is, if renamed | `::session_refresh` |
#[proc_macro_attribute]
pub fn session_refresh(args: TokenStream, item: TokenStream) -> TokenStream {
    expand::expand(args.into(), &item.into()).into()
}
