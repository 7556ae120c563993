//! Sessions in an application's own table, on sqlx and PostgreSQL.

use std::{collections::HashMap, ops::RangeInclusive};

use async_trait::async_trait;
use axum::BoxError;
use serde_json::Value;
use session_refresh::store::{SessionId, Touch, Touched};
use sqlx::{PgPool, query, query_as, types::Json};
use time::OffsetDateTime;
use tower_sessions::{
    SessionStore,
    session::{Id, Record},
    session_store::{Error, Result},
};

/// The table: `create table user_sessions (id text primary key, data jsonb not null, expires_at timestamptz not null)`.
#[derive(Clone, Debug)]
pub struct UserSessions(pub PgPool);

impl Touch for UserSessions {
    async fn touch(
        &self,
        id: SessionId,
        due: RangeInclusive<OffsetDateTime>,
        expiry: OffsetDateTime,
    ) -> std::result::Result<Touched, BoxError> {
        // One statement: whatever happens to the row meanwhile happens before it or after it. It waits for no lock, after
        // which the session might have ended.
        let touch = "update user_sessions set expires_at = $4 where id in \
            (select id from user_sessions where id = $1 \
             and expires_at > clock_timestamp() and expires_at between $2 and $3 and expires_at < $4 \
             for no key update skip locked)";
        let touch = query(touch)
            .bind(id.to_string())
            .bind(due.start())
            .bind(due.end())
            .bind(expiry);
        if touch.execute(&self.0).await?.rows_affected() == 1 {
            return Ok(Touched::Done);
        }
        let why = "select expires_at <= $3 and expires_at < $4, expires_at < $2 from user_sessions \
            where id = $1 and expires_at > clock_timestamp()";
        let live: Option<(bool, bool)> = query_as(why)
            .bind(id.to_string())
            .bind(due.start())
            .bind(due.end())
            .bind(expiry)
            .fetch_optional(&self.0)
            .await?;
        Ok(match live {
            None => Touched::Gone,
            Some((false, _)) => Touched::NotDue,
            Some((true, true)) => Touched::Shortened,
            Some((true, false)) => Touched::Busy,
        })
    }
}

#[async_trait]
impl SessionStore for UserSessions {
    async fn create(&self, record: &mut Record) -> Result<()> {
        let insert = "insert into user_sessions values ($1, $2, $3) on conflict do nothing";
        while self.write(insert, record).await? == 0 {
            record.id = Id::default();
        }
        Ok(())
    }

    async fn save(&self, record: &Record) -> Result<()> {
        // Nothing is inserted: a session that has ended stays so.
        let update = "update user_sessions set data = $2, expires_at = $3 \
            where id = $1 and expires_at > clock_timestamp()";
        self.write(update, record).await?;
        Ok(())
    }

    async fn load(&self, id: &Id) -> Result<Option<Record>> {
        let select = "select data, expires_at from user_sessions \
            where id = $1 and expires_at > clock_timestamp()";
        let select = query_as(select).bind(id.to_string());
        let row: Option<(Json<HashMap<String, Value>>, OffsetDateTime)> =
            select.fetch_optional(&self.0).await.map_err(failed)?;
        Ok(row.map(|(Json(data), expiry_date)| Record {
            id: *id,
            data,
            expiry_date,
        }))
    }

    async fn delete(&self, id: &Id) -> Result<()> {
        let delete = query("delete from user_sessions where id = $1").bind(id.to_string());
        delete.execute(&self.0).await.map_err(failed)?;
        Ok(())
    }
}

impl UserSessions {
    async fn write(&self, statement: &'static str, record: &Record) -> Result<u64> {
        let write = query(statement).bind(record.id.to_string());
        let write = write.bind(Json(&record.data)).bind(record.expiry_date);
        Ok(write
            .execute(&self.0)
            .await
            .map_err(failed)?
            .rows_affected())
    }
}

fn failed(error: sqlx::Error) -> Error {
    Error::Backend(error.to_string())
}
