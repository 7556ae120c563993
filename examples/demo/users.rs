//! The accounts: who there is, what they may do, and whether a password is theirs.

use std::fmt;

use axum_login::{AuthUser, AuthnBackend, UserId};
use serde::Deserialize;
use session_refresh::SessionUser;
use sqlx::{FromRow, SqlitePool};
use tokio::task;

use crate::failure::Failure;

#[derive(Clone, Copy, Debug, PartialEq, Eq, sqlx::Type)]
#[sqlx(rename_all = "lowercase")]
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

/// An account of the demo. Its password is no secret: the console and the login page show it.
pub struct Account {
    pub name: &'static str,
    pub password: &'static str,
    pub role: Role,
}

pub const ACCOUNTS: [Account; 3] = [
    Account {
        name: "ursula",
        password: "lathe-heaven",
        role: Role::Member,
    },
    Account {
        name: "stella",
        password: "night-shift",
        role: Role::Staff,
    },
    Account {
        name: "root",
        password: "all-the-keys",
        role: Role::Superuser,
    },
];

#[derive(Clone, FromRow)]
pub struct User {
    id: i64,
    pub name: String,
    pub role: Role,
    password_hash: String,
}

// By hand, because the hash belongs into no log.
impl fmt::Debug for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("User")
            .field("id", &self.id)
            .field("name", &self.name)
            .field("role", &self.role)
            .finish_non_exhaustive()
    }
}

impl AuthUser for User {
    type Id = i64;

    fn id(&self) -> i64 {
        self.id
    }

    // A changed password ends the sessions that were opened with the old one.
    fn session_auth_hash(&self) -> &[u8] {
        self.password_hash.as_bytes()
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

#[derive(Clone, Deserialize)]
pub struct Credentials {
    pub name: String,
    pub password: String,
}

#[derive(Clone, Debug)]
pub struct Backend {
    pool: SqlitePool,
}

impl Backend {
    pub fn new(pool: SqlitePool) -> Self {
        Self { pool }
    }
}

impl AuthnBackend for Backend {
    type User = User;
    type Credentials = Credentials;
    type Error = sqlx::Error;

    async fn authenticate(&self, credentials: Credentials) -> sqlx::Result<Option<User>> {
        let user: Option<User> = sqlx::query_as("SELECT * FROM users WHERE name = ?")
            .bind(credentials.name)
            .fetch_optional(&self.pool)
            .await?;
        // Slow on purpose: off the threads that serve.
        task::spawn_blocking(move || {
            user.filter(|user| {
                password_auth::verify_password(credentials.password, &user.password_hash).is_ok()
            })
        })
        .await
        .map_err(|_| sqlx::Error::WorkerCrashed)
    }

    async fn get_user(&self, id: &UserId<Self>) -> sqlx::Result<Option<User>> {
        sqlx::query_as("SELECT * FROM users WHERE id = ?")
            .bind(id)
            .fetch_optional(&self.pool)
            .await
    }
}

/// Creates the table and the accounts that are not there yet.
pub async fn seed(pool: &SqlitePool) -> Result<(), Failure> {
    sqlx::query(
        "CREATE TABLE IF NOT EXISTS users (
            id INTEGER PRIMARY KEY,
            name TEXT NOT NULL UNIQUE,
            role TEXT NOT NULL,
            password_hash TEXT NOT NULL
        )",
    )
    .execute(pool)
    .await?;
    for account in ACCOUNTS {
        let known: bool = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM users WHERE name = ?)")
            .bind(account.name)
            .fetch_one(pool)
            .await?;
        if known {
            continue;
        }
        let hash =
            task::spawn_blocking(move || password_auth::generate_hash(account.password)).await?;
        sqlx::query(
            "INSERT INTO users (name, role, password_hash) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
        )
        .bind(account.name)
        .bind(account.role)
        .bind(hash)
        .execute(pool)
        .await?;
    }
    Ok(())
}
