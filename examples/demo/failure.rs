//! What went wrong on the server: told to the log, and to the visitor only that it did.

use std::fmt::{self, Display};

use axum::{
    http::StatusCode,
    response::{IntoResponse, Response},
};
use maud::html;

use crate::view;

#[derive(Debug)]
pub struct Failure(String);

impl Failure {
    pub fn new(what: String) -> Self {
        Self(what)
    }
}

// Possible because `Failure` is no `Error` itself.
impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        Self(error.to_string())
    }
}

impl Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        tracing::error!(error = %self, "the request failed");
        let text = html! { p { "That did not work. Please try again." } };
        (
            StatusCode::INTERNAL_SERVER_ERROR,
            view::notice("Something went wrong", &text),
        )
            .into_response()
    }
}
