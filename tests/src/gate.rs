//! Where a slow handler waits until the test lets it go on.

use std::{convert::Infallible, sync::Arc};

use axum::{extract::FromRequestParts, http::request::Parts};
use session_refresh::SessionUser;
use tokio::sync::Semaphore;

/// A slow handler's gate. Clones share it.
#[derive(Clone, Debug)]
pub struct Gate {
    arrived: Arc<Semaphore>,
    opened: Arc<Semaphore>,
}

impl Default for Gate {
    fn default() -> Self {
        Self {
            arrived: Arc::new(Semaphore::new(0)),
            opened: Arc::new(Semaphore::new(0)),
        }
    }
}

impl Gate {
    /// In the handler: says that it is here, and waits.
    pub async fn pass(&self) {
        self.arrive();
        take(&self.opened).await;
    }

    /// In the handler: says that it is here.
    pub fn arrive(&self) {
        self.arrived.add_permits(1);
    }

    /// In the test: waits for a handler to arrive.
    pub async fn arrived(&self) {
        take(&self.arrived).await;
    }

    /// In the test: lets a handler go on.
    pub fn open(&self) {
        self.opened.add_permits(1);
    }
}

async fn take(semaphore: &Semaphore) {
    semaphore
        .acquire()
        .await
        .expect("a gate is never closed for good")
        .forget();
}

/// A user who is looked up at the [`Gate`] that is in the request, while the session waits for its refresh.
#[derive(Debug)]
pub struct FoundAtGate;

impl SessionUser for FoundAtGate {}

impl<S: Sync> FromRequestParts<S> for FoundAtGate {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        let gate = parts.extensions.get::<Gate>();
        gate.expect("there is a gate").pass().await;
        Ok(Self)
    }
}
