//! The accounts: who there is, what they may do, and whether a password is theirs.

use std::{fmt, time::Duration};

use axum_login::{AuthUser, AuthnBackend, UserId};
use serde::Deserialize;
use session_refresh::SessionUser;
use sqlx::{
    AnyPool, FromRow, Row as _,
    any::{AnyPoolOptions, AnyRow},
};
use tokio::task;

use crate::failure::Failure;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Member,
    Staff,
    Superuser,
}

impl Role {
    /// As the database has it.
    fn word(self) -> &'static str {
        match self {
            Self::Member => "member",
            Self::Staff => "staff",
            Self::Superuser => "superuser",
        }
    }
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

#[derive(Clone)]
pub struct User {
    id: i64,
    pub name: String,
    pub role: Role,
    password_hash: String,
}

impl FromRow<'_, AnyRow> for User {
    fn from_row(row: &AnyRow) -> sqlx::Result<Self> {
        let word: String = row.try_get("role")?;
        let role = [Role::Member, Role::Staff, Role::Superuser]
            .into_iter()
            .find(|role| role.word() == word)
            .ok_or_else(|| sqlx::Error::Decode(format!("there is no role {word:?}").into()))?;
        Ok(Self {
            id: row.try_get("id")?,
            name: row.try_get("name")?,
            role,
            password_hash: row.try_get("password_hash")?,
        })
    }
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

/// The accounts' table, in any of the databases.
#[derive(Clone, Debug)]
pub struct Users {
    pool: AnyPool,
    numbered: bool,
}

impl Users {
    /// Connects, and creates the table and the accounts that are not there yet.
    pub async fn open(url: &str) -> Result<Self, Failure> {
        sqlx::any::install_default_drivers();
        // A server that does not answer is told of while somebody still looks.
        let options = AnyPoolOptions::new().acquire_timeout(Duration::from_secs(5));
        let users = Self {
            pool: options.connect(url).await?,
            numbered: url.starts_with("postgres"),
        };
        users.seed().await?;
        Ok(users)
    }

    /// PostgreSQL numbers its parameters: `$1` for the one that is `?` elsewhere.
    fn sql(&self, text: &str) -> String {
        let mut parts = text.split('?');
        let mut sql = parts.next().unwrap_or_default().to_owned();
        for (index, part) in parts.enumerate() {
            let parameter = if self.numbered {
                format!("${}", index + 1)
            } else {
                "?".into()
            };
            sql += &parameter;
            sql += part;
        }
        sql
    }

    async fn seed(&self) -> Result<(), Failure> {
        sqlx::query(
            "CREATE TABLE IF NOT EXISTS users (
                id BIGINT PRIMARY KEY,
                name VARCHAR(50) NOT NULL UNIQUE,
                role VARCHAR(20) NOT NULL,
                password_hash VARCHAR(200) NOT NULL
            )",
        )
        .execute(&self.pool)
        .await?;
        for (id, account) in (1_i64..).zip(ACCOUNTS) {
            if self.find("id", id).await?.is_some() {
                continue;
            }
            let hash = task::spawn_blocking(move || password_auth::generate_hash(account.password))
                .await?;
            let insert =
                self.sql("INSERT INTO users (id, name, role, password_hash) VALUES (?, ?, ?, ?)");
            let inserted = sqlx::query(&insert)
                .bind(id)
                .bind(account.name)
                .bind(account.role.word())
                .bind(hash)
                .execute(&self.pool)
                .await;
            match inserted {
                // Another demo on the same database was faster.
                Err(sqlx::Error::Database(error)) if error.is_unique_violation() => {}
                inserted => {
                    inserted?;
                }
            }
        }
        Ok(())
    }

    async fn find<T>(&self, column: &str, value: T) -> sqlx::Result<Option<User>>
    where
        T: for<'q> sqlx::Encode<'q, sqlx::Any> + sqlx::Type<sqlx::Any> + Send + 'static,
    {
        let select = self.sql(&format!(
            "SELECT id, name, role, password_hash FROM users WHERE {column} = ?"
        ));
        sqlx::query_as(&select)
            .bind(value)
            .fetch_optional(&self.pool)
            .await
    }
}

#[derive(Clone, Debug)]
pub struct Backend {
    users: Users,
}

impl Backend {
    pub fn new(users: Users) -> Self {
        Self { users }
    }
}

impl AuthnBackend for Backend {
    type User = User;
    type Credentials = Credentials;
    type Error = sqlx::Error;

    async fn authenticate(&self, credentials: Credentials) -> sqlx::Result<Option<User>> {
        let user = self.users.find("name", credentials.name).await?;
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
        self.users.find("id", *id).await
    }
}
