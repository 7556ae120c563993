//! An application on a loopback port, and a browser-like client.

use std::net::SocketAddr;

use axum::{Router, extract::Request, middleware::Next, response::Response};
use http::{HeaderMap, StatusCode};
use session_refresh::RefreshInfo;
use tokio::{net::TcpListener, task::JoinHandle};

/// A served application; it stops when dropped.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Server {
    /// Serves `app` on a free loopback port. What the response's extensions say of the refresh is repeated in the
    /// header `x-refresh`, since extensions don't travel.
    ///
    /// # Panics
    /// If no port is free.
    pub async fn start(app: Router) -> Self {
        let app = app.layer(axum::middleware::from_fn(tell_refresh));
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
        let http = reqwest::Client::builder()
            .cookie_store(true)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .expect("a plain client can be built");
        Client {
            http,
            base: format!("http://{}", self.address),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn tell_refresh(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    if let Some(info) = response.extensions().get::<RefreshInfo>() {
        let value = info
            .outcome
            .as_str()
            .parse()
            .expect("an outcome is a header value");
        response.headers_mut().insert("x-refresh", value);
    }
    response
}

/// A client with a cookie jar. Clones share the jar.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
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
        self.headers
            .get("x-refresh")
            .map_or("", |outcome| outcome.to_str().unwrap_or_default())
    }

    /// The `Set-Cookie` header; empty if there is none.
    #[must_use]
    pub fn set_cookie(&self) -> &str {
        self.headers
            .get("set-cookie")
            .map_or("", |cookie| cookie.to_str().unwrap_or_default())
    }
}

impl Client {
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

    /// `POST path` with a body.
    pub async fn post_body(&self, path: &str, body: &str) -> Answer {
        self.send(
            self.http
                .post(format!("{}{path}", self.base))
                .body(body.to_owned()),
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
