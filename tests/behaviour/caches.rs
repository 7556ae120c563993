//! A response that a shared cache may keep carries no cookie that only a refresh has caused.

use axum::{
    Router,
    extract::Path,
    response::{IntoResponse as _, Response},
    routing::get,
};
use http::{HeaderName, HeaderValue};
use session_refresh::session_refresh;
use session_refresh_tests::{Sessions, Setup};

type Headers = &'static [(&'static str, &'static [u8])];

/// A shared cache may keep these.
const SHARED: &[Headers] = &[
    &[("cache-control", b"public")],
    &[("cache-control", b"max-age=60")],
    &[("cache-control", b"s-maxage=60")],
    &[("cache-control", b"no-cache"), ("cache-control", b"public")],
    &[
        ("cdn-cache-control", b"public, max-age=600"),
        ("cache-control", b"private"),
    ],
    &[
        ("cloudflare-cdn-cache-control", b"max-age=600"),
        ("cache-control", b"private"),
    ],
    &[
        ("vercel-cdn-cache-control", b"max-age=600"),
        ("cache-control", b"no-store"),
    ],
    &[
        ("netlify-cdn-cache-control", b"public, durable, max-age=600"),
        ("cache-control", b"private"),
    ],
    &[("surrogate-control", b"max-age=3600")],
    &[("x-accel-expires", b"60")],
    &[("cache-control", b"ext=\"a,no-store,b\", max-age=60")],
    &[("cache-control", b"private, \xfc")],
    &[("cache-control", b"private, ext=\"unfinished")],
    &[("expires", b"Fri, 01 Jan 2100 00:00:00 GMT")],
];

/// These are for one user's browser, or say nothing.
const PRIVATE: &[Headers] = &[
    &[],
    &[("cache-control", b"private, max-age=60")],
    &[("cache-control", b"no-store")],
    &[
        ("cache-control", b"no-cache, must-revalidate"),
        ("expires", b"Sat, 26 Jul 1997 05:00:00 GMT"),
    ],
    &[("expires", b"Thu, 01 Jan 1970 00:00:00 GMT")],
    &[
        ("cache-control", b"max-age=0"),
        ("expires", b"Fri, 01 Jan 2100 00:00:00 GMT"),
    ],
    &[
        ("cache-control", b"max-age=00"),
        ("expires", b"Fri, 01 Jan 2100 00:00:00 GMT"),
    ],
    &[
        ("cdn-cache-control", b"no-store"),
        ("surrogate-control", b"no-store"),
        ("x-accel-expires", b"0"),
    ],
];

fn response(headers: Headers) -> Response {
    let headers = headers.iter().map(|(name, value)| {
        let value = HeaderValue::from_bytes(value).expect("a header's value");
        (HeaderName::from_static(name), value)
    });
    let mut response = ().into_response();
    response.headers_mut().extend(headers);
    response
}

#[session_refresh]
async fn shared(Path(index): Path<usize>) -> Response {
    if index % 2 == 1 {
        // One that waits is looked at once more before its cookie is sent.
        tokio::task::yield_now().await;
    }
    response(SHARED[index])
}

#[session_refresh]
async fn private(Path(index): Path<usize>) -> Response {
    response(PRIVATE[index])
}

on_either_layer![
    what_a_shared_cache_may_keep_carries_no_cookie,
    what_it_may_not_keep_carries_the_cookie_and_is_private,
];

fn setup<K: Sessions>(sessions: K) -> Setup<K> {
    let routes = Router::new()
        .route("/shared/{index}", get(shared))
        .route("/private/{index}", get(private));
    Setup::new(routes).on(sessions)
}

async fn what_a_shared_cache_may_keep_carries_no_cookie<K: Sessions>(sessions: K) {
    let site = setup(sessions).start().await;
    for (index, headers) in SHARED.iter().enumerate() {
        let client = site.due().await;
        let answer = client.get(&format!("/shared/{index}")).await;
        // A touch has come before the answer, and a stamp would come after it.
        let outcome = if K::TOUCH {
            "refreshed"
        } else {
            "shared_cache"
        };
        assert_eq!(answer.outcome(), outcome, "{headers:?}");
        assert_eq!(answer.set_cookie(), "", "{headers:?}");
        let sent = answer.headers.get_all("cache-control").iter().count();
        let given = headers.iter().filter(|(name, _)| *name == "cache-control");
        assert_eq!(sent, given.count(), "nothing was added to {headers:?}");
    }
}

async fn what_it_may_not_keep_carries_the_cookie_and_is_private<K: Sessions>(sessions: K) {
    let site = setup(sessions).start().await;
    for (index, headers) in PRIVATE.iter().enumerate() {
        let client = site.due().await;
        let answer = client.get(&format!("/private/{index}")).await;
        assert_eq!(answer.outcome(), "refreshed", "{headers:?}");
        assert!(!answer.set_cookie().is_empty(), "{headers:?}");
        let mut words = answer
            .headers
            .get_all("cache-control")
            .iter()
            .flat_map(|value| value.to_str().unwrap().split(", "));
        assert!(
            words.any(|word| word == "private" || word == "no-store"),
            "{headers:?}"
        );
        // Not due: the response stays as the handler made it.
        let answer = client.get(&format!("/private/{index}")).await;
        assert_eq!((answer.outcome(), answer.set_cookie()), ("not_due", ""));
        let sent = answer.headers.get_all("cache-control").iter().count();
        let given = headers.iter().filter(|(name, _)| *name == "cache-control");
        assert_eq!(sent, given.count(), "{headers:?}");
    }
}
