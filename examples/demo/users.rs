//! The accounts: who there is, and what they may do. Nobody needs a password here.

use std::{convert::Infallible, fmt};

use axum_login::{AuthUser, AuthnBackend};
use serde::Deserialize;
use session_refresh::SessionUser;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Member,
    Staff,
    Superuser,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Member => "ordinary user",
            Self::Staff => "staff member",
            Self::Superuser => "superuser",
        })
    }
}

#[derive(Clone, Copy, Debug)]
pub struct User {
    pub name: &'static str,
    pub role: Role,
}

pub const USERS: [User; 3] = [
    User {
        name: "ursula",
        role: Role::Member,
    },
    User {
        name: "stella",
        role: Role::Staff,
    },
    User {
        name: "root",
        role: Role::Superuser,
    },
];

impl AuthUser for User {
    type Id = String;

    fn id(&self) -> String {
        self.name.to_owned()
    }

    // Of the password's hash, where there is one: a new password ends the sessions of the old one.
    fn session_auth_hash(&self) -> &[u8] {
        self.name.as_bytes()
    }
}

/// All that session-refresh wants to know.
impl SessionUser for User {
    fn is_staff(&self) -> bool {
        self.role == Role::Staff
    }

    fn is_superuser(&self) -> bool {
        self.role == Role::Superuser
    }
}

/// A name is enough.
#[derive(Clone, Deserialize)]
pub struct Name {
    pub name: String,
}

#[derive(Clone, Copy, Debug)]
pub struct Backend;

impl AuthnBackend for Backend {
    type User = User;
    type Credentials = Name;
    type Error = Infallible;

    async fn authenticate(&self, Name { name }: Name) -> Result<Option<User>, Infallible> {
        self.get_user(&name).await
    }

    async fn get_user(&self, name: &String) -> Result<Option<User>, Infallible> {
        Ok(USERS.into_iter().find(|user| user.name == name))
    }
}
