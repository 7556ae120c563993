//! Cookies that tower-sessions' layer removes though the page has used no session: they are left alone.
//!
//! A cookie with the session's name may be another application's on the same host, or that of a session which another tab
//! has replaced. The layer removes it where it names no session: where it is no id at all, or where axum-login has looked
//! the session up in vain. The layer keeps the cookie's name to itself, so what it has removed is found by comparison: a
//! middleware between it and our inner side that removes a cookie on such a request is taken for it.

use http::{HeaderMap, header};
use tower_cookies::Cookies;

/// The client's cookies when the handler had answered, before the layer.
pub(crate) struct SparedCookies {
    cookies: Cookies,
    names: Vec<String>,
    /// How many `Set-Cookie` headers are the handler's own.
    own: usize,
}

impl SparedCookies {
    pub(crate) fn new(cookies: Cookies, headers: &HeaderMap) -> Self {
        let names = cookies.list();
        Self {
            names: (names.iter().map(|cookie| cookie.name().to_owned())).collect(),
            own: headers.get_all(header::SET_COOKIE).iter().count(),
            cookies,
        }
    }

    /// Takes from the response what the layer has added to remove one of them.
    pub(crate) fn restore(self, headers: &mut HeaderMap) {
        if headers.get_all(header::SET_COOKIE).iter().count() == self.own {
            return;
        }
        let removed = |name: &String| self.cookies.get(name).is_none();
        let removals: Vec<_> = (self.names.iter().filter(|name| removed(name)))
            .map(|name| format!("{name}=;"))
            .collect();
        if removals.is_empty() {
            return;
        }
        let is_removal =
            |value: &[u8]| (removals.iter()).any(|removal| value.starts_with(removal.as_bytes()));
        let header::Entry::Occupied(sent) = headers.entry(header::SET_COOKIE) else {
            return;
        };
        let (_, values) = sent.remove_entry_mult();
        let kept: Vec<_> = values
            .enumerate()
            .filter(|(index, value)| *index < self.own || !is_removal(value.as_bytes()))
            .collect();
        for (_, value) in kept {
            headers.append(header::SET_COOKIE, value);
        }
    }
}
