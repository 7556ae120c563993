//! axum-login's side: one user, who is always logged in.

use std::convert::Infallible;

use axum_login::{AuthUser, AuthnBackend};
use session_refresh::SessionUser;

/// Whoever is logged in.
#[derive(Clone, Debug)]
pub struct Account(i64);

impl AuthUser for Account {
    type Id = i64;

    fn id(&self) -> i64 {
        self.0
    }

    fn session_auth_hash(&self) -> &[u8] {
        b"secret"
    }
}

impl SessionUser for Account {}

/// Knows one user.
#[derive(Clone, Debug)]
pub struct Accounts;

impl AuthnBackend for Accounts {
    type User = Account;
    type Credentials = i64;
    type Error = Infallible;

    async fn authenticate(&self, id: i64) -> Result<Option<Account>, Infallible> {
        Ok(Some(Account(id)))
    }

    async fn get_user(&self, id: &i64) -> Result<Option<Account>, Infallible> {
        Ok(Some(Account(*id)))
    }
}
