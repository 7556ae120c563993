//! A server of Pavex's sessions on Redis: `serve-pavex WAY STORE PORT`, of which only the port matters.
//!
//! It does what Pavex would generate for an application of two pages, but for the router.

#[path = "../../../cost/src/data.rs"]
mod data;

use std::{net::Ipv4Addr, sync::Arc, time::Duration};

use pavex::{
    Response,
    cookie::{
        Key, Processor, ProcessorConfig, ResponseCookies,
        config::{CryptoAlgorithm, CryptoRule},
        extract_request_cookies, inject_response_cookies,
    },
    request::RequestHead,
    server::{Server, ServerConfiguration},
};
use pavex_session::{IncomingSession, Session, SessionConfig, SessionStore, finalize_session};
use pavex_session_redis::{RedisSessionStore, RedisSessionStoreConfig};
use redis::{Client, aio::ConnectionManager};

/// As the other servers have it.
const COOKIE: &str = "id";
const LIFETIME: Duration = Duration::from_secs(14 * 24 * 60 * 60);

type State = Arc<(SessionStore, SessionConfig, Processor)>;

#[tokio::main]
async fn main() {
    let port = std::env::args().nth(3).expect("WAY STORE PORT");
    let port = port.parse().expect("a port is a number");
    let url = std::env::var("REDIS_URL").expect("REDIS_URL says where the server is");
    let client = Client::open(url).expect("it is a URL");
    let connection = ConnectionManager::new(client).await.expect("Redis answers");
    let store = RedisSessionStore::new(connection, RedisSessionStoreConfig::default());
    let mut config = SessionConfig::new();
    config.cookie.name = COOKIE.to_owned();
    config.state.ttl = LIFETIME;
    // It insists on one or the other.
    let signed = CryptoRule {
        cookie_names: vec![COOKIE.to_owned()],
        algorithm: CryptoAlgorithm::Signing,
        key: Key::generate(),
        fallbacks: Vec::new(),
    };
    let mut cookies = ProcessorConfig::default();
    cookies.crypto_rules.push(signed);
    let state: State = Arc::new((store.into(), config, cookies.into()));
    Server::new()
        .set_config(ServerConfiguration::new().set_n_workers(2))
        .bind((Ipv4Addr::LOCALHOST, port).into())
        .await
        .expect("the port is free")
        .serve(|request, _, state| answer(request, state), state)
        .await;
}

async fn answer(request: http::Request<hyper::body::Incoming>, state: State) -> Response {
    let (store, config, processor) = &*state;
    let head = RequestHead::from(request.into_parts().0);
    let cookies = extract_request_cookies(&head, processor).expect("cookies are as they were sent");
    let incoming = IncomingSession::extract(&cookies, &config.cookie);
    let mut session = Session::new(store, config, incoming);
    let response = if let Some(bytes) = head.target.path().strip_prefix("/start/") {
        for (key, value) in data::data(bytes.parse().expect("a number of bytes")) {
            let inserted = session.insert(key, value).await;
            inserted.expect("a value is JSON");
        }
        Response::ok()
    } else {
        let name: Option<String> = session.get("name").await.expect("the session is loaded");
        Response::ok().set_typed_body(name.unwrap_or_default())
    };
    let mut sent = ResponseCookies::new();
    let response = finalize_session(response, &mut sent, processor, session).await;
    let response = response.expect("the session is saved");
    inject_response_cookies(response, sent, processor).expect("a cookie is a header's value")
}
