//! An application on a loopback port, and a browser-like client.

use std::{net::SocketAddr, sync::Arc};

use axum::{
    Router,
    extract::Request,
    middleware::{Next, from_fn},
    response::Response,
};
use http::{HeaderMap, StatusCode};
use reqwest::cookie::{CookieStore as _, Jar};
use session_refresh::{Outcome, RefreshInfo, RefreshLayer};
use time::{Duration, OffsetDateTime};
use tokio::{net::TcpListener, task::JoinHandle};
use tower_sessions::session::Id;

use crate::Events;

/// A served application; it stops when dropped.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Server {
    /// Serves `app` on a free loopback port. What the response's extensions say of the refresh is repeated in headers
    /// that [`Answer`] reads, since extensions don't travel.
    ///
    /// # Panics
    /// If no port is free.
    pub async fn start(app: Router) -> Self {
        Events::listen();
        let app = telling(app);
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a port is free");
        let address = listener
            .local_addr()
            .expect("a bound socket has an address");
        let task = tokio::spawn(async move {
            axum::serve(listener, app)
                .await
                .expect("serving never ends");
        });
        Self { address, task }
    }

    /// A client with an empty cookie jar.
    ///
    /// # Panics
    /// If the client can't be built.
    #[must_use]
    pub fn client(&self) -> Client {
        let jar = Arc::new(Jar::default());
        let http = reqwest::Client::builder()
            .cookie_provider(Arc::clone(&jar))
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .expect("a plain client can be built");
        Client {
            http,
            jar,
            base: format!("http://{}", self.address),
        }
    }
}

impl Server {
    /// The same client here, its cookies included.
    #[must_use]
    pub fn welcome(&self, client: &Client) -> Client {
        Client {
            base: format!("http://{}", self.address),
            ..client.clone()
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The application, and each response repeats in headers what its extensions say of the refresh.
pub fn telling(app: Router) -> Router {
    app.layer(RefreshLayer::new().info_in_response())
        .layer(from_fn(tell_refresh))
}

async fn tell_refresh(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    if let Some(info) = response.extensions().get::<RefreshInfo>() {
        let info = info.clone();
        let mut tell = |name, value: String| {
            let value = value.parse().expect("names and numbers are header values");
            response.headers_mut().insert(name, value);
        };
        assert_eq!(info.refreshed, info.outcome == Outcome::Refreshed);
        tell(OUTCOME, info.outcome.to_string());
        if let Some(at) = info.refreshed_at {
            tell(REFRESHED_AT, at.unix_timestamp_nanos().to_string());
        }
        if let Some(at) = info.expires_at {
            tell(EXPIRES_AT, at.unix_timestamp_nanos().to_string());
        }
        if let Some(at) = info.ends_at {
            tell(ENDS_AT, at.unix_timestamp_nanos().to_string());
        }
    }
    response
}

const OUTCOME: &str = "x-refresh";
const REFRESHED_AT: &str = "x-refreshed-at";
const EXPIRES_AT: &str = "x-expires-at";
const ENDS_AT: &str = "x-ends-at";

/// A client with a cookie jar. Clones share the jar.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    jar: Arc<Jar>,
    base: String,
}

/// A response, read to its end.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub text: String,
}

impl Answer {
    /// The final outcome, as the response's extensions tell it; empty if they don't.
    #[must_use]
    pub fn outcome(&self) -> &str {
        self.header(OUTCOME)
    }

    /// The final `refreshed_at`, likewise.
    #[must_use]
    pub fn refreshed_at(&self) -> Option<OffsetDateTime> {
        self.instant(REFRESHED_AT)
    }

    /// The final `expires_at`, likewise.
    #[must_use]
    pub fn expires_at(&self) -> Option<OffsetDateTime> {
        self.instant(EXPIRES_AT)
    }

    /// The final `ends_at`, likewise.
    #[must_use]
    pub fn ends_at(&self) -> Option<OffsetDateTime> {
        self.instant(ENDS_AT)
    }

    /// How long the session lives from that refresh on, as far as the milliseconds of a stamp can tell.
    #[must_use]
    pub fn lifetime(&self) -> Option<Duration> {
        let exact = self.expires_at()? - self.refreshed_at()?;
        let seconds = (exact + Duration::milliseconds(1)).whole_seconds();
        Some(Duration::seconds(seconds))
    }

    /// The `Set-Cookie` header; empty if there is none.
    #[must_use]
    pub fn set_cookie(&self) -> &str {
        self.header("set-cookie")
    }

    /// How long the cookie lives that the response sends: its `Max-Age`.
    #[must_use]
    pub fn cookie_age(&self) -> Option<Duration> {
        let (_, age) = self.set_cookie().split_once("Max-Age=")?;
        let seconds = age.split(';').next()?.parse().ok()?;
        Some(Duration::seconds(seconds))
    }

    /// Whether the response tells the client to drop its session cookie.
    #[must_use]
    pub fn removes_cookie(&self) -> bool {
        self.set_cookie().starts_with("id=;") && self.set_cookie().contains("Max-Age=0")
    }

    /// A header's value; empty if there is none.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap_or_default())
    }

    fn instant(&self, name: &str) -> Option<OffsetDateTime> {
        let nanoseconds = self.header(name).parse().ok()?;
        OffsetDateTime::from_unix_timestamp_nanos(nanoseconds).ok()
    }
}

impl Client {
    /// The session that the cookie jar names.
    #[must_use]
    pub fn session_id(&self) -> Option<Id> {
        let url = self.base.parse().ok()?;
        let cookies = self.jar.cookies(&url)?;
        cookies.to_str().ok()?.strip_prefix("id=")?.parse().ok()
    }

    /// `GET path`.
    pub async fn get(&self, path: &str) -> Answer {
        self.send(self.http.get(format!("{}{path}", self.base)))
            .await
    }

    /// `GET path` with one more header.
    pub async fn get_with(&self, path: &str, header: &str, value: &str) -> Answer {
        self.send(
            self.http
                .get(format!("{}{path}", self.base))
                .header(header, value),
        )
        .await
    }

    /// `POST path` without a body.
    pub async fn post(&self, path: &str) -> Answer {
        self.send(self.http.post(format!("{}{path}", self.base)))
            .await
    }

    /// `POST path` with one more header.
    pub async fn post_with(&self, path: &str, header: &str, value: &str) -> Answer {
        self.send(
            self.http
                .post(format!("{}{path}", self.base))
                .header(header, value),
        )
        .await
    }

    /// Where the server is: `http://127.0.0.1:port`.
    #[must_use]
    pub fn origin(&self) -> &str {
        &self.base
    }

    /// `POST path` with a body.
    pub async fn post_body(&self, path: &str, body: &str) -> Answer {
        self.send(
            self.http
                .post(format!("{}{path}", self.base))
                .body(body.to_owned()),
        )
        .await
    }

    /// `POST path` with a form.
    pub async fn post_form(&self, path: &str, form: &str) -> Answer {
        self.send(
            self.http
                .post(format!("{}{path}", self.base))
                .header("content-type", "application/x-www-form-urlencoded")
                .body(form.to_owned()),
        )
        .await
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> Answer {
        let response = request.send().await.expect("the server answers");
        Answer {
            status: response.status(),
            headers: response.headers().clone(),
            text: response
                .text()
                .await
                .expect("the server answers to the end"),
        }
    }
}
