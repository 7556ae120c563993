//! What the console tells: one line for each request that knows of a session.

use axum::{extract::Request, middleware::Next, response::Response};
use session_refresh::{Outcome, RefreshInfo};
use time::macros::format_description;

pub async fn tell(request: Request, next: Next) -> Response {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let response = next.run(request).await;
    let session = match response.extensions().get::<RefreshInfo>() {
        Some(refresh) => told(refresh),
        None => String::from("no policy"),
    };
    let status = response.status().as_u16();
    println!("{:<5} {path:<22} {status}  {session}", method.as_str());
    response
}

fn told(refresh: &RefreshInfo) -> String {
    let format = format_description!("[hour]:[minute]:[second] UTC");
    let end = (refresh.expires_at).and_then(|end| end.format(format).ok());
    let end = end.map_or_else(String::new, |end| format!("; it ends at {end}"));
    match refresh.outcome {
        Outcome::Refreshed => format!("the session was refreshed{end}"),
        Outcome::NotDue => format!("refreshed less than an interval ago, nothing written{end}"),
        Outcome::Skipped(reason) => format!("left alone ({reason}){end}"),
        outcome => format!("not refreshed ({outcome}){end}"),
    }
}
