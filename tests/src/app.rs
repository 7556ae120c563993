//! Users, and how they log in and out.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use axum::{
    Router,
    extract::{FromRequestParts, Path},
    http::{StatusCode, request::Parts},
    routing::post,
};
use session_refresh::SessionUser;
use tower_sessions::Session;

/// How often [`CurrentUser`] was extracted: put it into the router as an extension.
#[derive(Clone, Debug, Default)]
pub struct Lookups(Arc<AtomicUsize>);

impl Lookups {
    /// How often so far.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

/// Whoever is logged in by [`login_routes`]; a visitor is turned away with 401.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CurrentUser {
    /// `user`, `staff` or `superuser`.
    pub role: String,
}

impl SessionUser for CurrentUser {
    fn is_staff(&self) -> bool {
        self.role == "staff"
    }

    fn is_superuser(&self) -> bool {
        self.role == "superuser"
    }
}

impl<S: Sync + Send> FromRequestParts<S> for CurrentUser {
    type Rejection = StatusCode;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, StatusCode> {
        if let Some(lookups) = parts.extensions.get::<Lookups>() {
            lookups.0.fetch_add(1, Ordering::SeqCst);
        }
        let session = Session::from_request_parts(parts, state)
            .await
            .map_err(|(status, _)| status)?;
        match session.get("role").await {
            Ok(Some(role)) => Ok(Self { role }),
            Ok(None) => Err(StatusCode::UNAUTHORIZED),
            Err(_) => Err(StatusCode::INTERNAL_SERVER_ERROR),
        }
    }
}

/// `POST /login/{role}` and `POST /logout`, neither of them annotated.
pub fn login_routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    async fn login(session: Session, Path(role): Path<String>) {
        session
            .insert("role", role)
            .await
            .expect("session is loaded");
    }
    async fn logout(session: Session) {
        session.flush().await.expect("session is deleted");
    }
    Router::new()
        .route("/login/{role}", post(login))
        .route("/logout", post(logout))
}
