//! Redis: upstream's keys and records, and an expiry that moves alone.
//!
//! A record ends with its expiry. Ours have it in a fixed width, which upstream's reader understands as well, so that a
//! touch can write over it in place, and a load need not ask for the key's expiry, too.

use std::{fmt, sync::LazyLock};

use axum::BoxError;
use fred::{
    interfaces::{KeysInterface, LuaInterface},
    types::{Expiration, SetOptions, Value, scripts::Script},
};
use time::OffsetDateTime;

use super::{
    encoded,
    release::{OwnStore, Record, RecordRef, SessionId, StoreError, session_store},
    touch::{EncodedLoad, FirstTouch, Touch, Touched},
};
use crate::{
    schedule::Millis,
    session::{for_each_release, sealed::Release},
};

/// Redis 7 or later, or Valkey, with tower-sessions-redis-store's keys and records: an application can change to it and
/// back, and nobody is logged out. A store of both releases of tower-sessions.
///
/// A load is one `GET`, and a touch one script on the server. (A record that upstream has written says only in the key
/// when it expires, once it has been touched: it takes a second command until it is next saved.) Leave the keys' expiry
/// to the store: a load does not see what `EXPIRE` by hand does.
///
/// ```no_run
/// # async fn f() -> Result<(), Box<dyn std::error::Error>> {
/// use fred::prelude::*;
/// use session_refresh::{LifetimeLayer, store::RedisStore};
/// use tower_sessions::SessionManagerLayer;
///
/// let pool = Pool::new(Config::from_url("redis://localhost")?, None, None, None, 6)?;
/// pool.init().await?;
/// let sessions = LifetimeLayer::new(RedisStore::new(pool), |store| SessionManagerLayer::new(store));
/// # let _: axum::Router = axum::Router::new().layer(sessions); Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct RedisStore<C> {
    client: C,
    prefix: String,
}

/// ARGV: due before, expiry, and that as the [`end`](encoded::end) of a record. Answers 1 for done, 0 for not due and -2, as Redis
/// does, for gone. A key that never expires is never due. The expiry first: a server that is out of memory refuses a
/// script whose first write might need more.
static TOUCH: LazyLock<Script> = LazyLock::new(|| {
    Script::from_lua(
        r"local now = redis.call('PEXPIRETIME', KEYS[1])
        if now == -2 then return now end
        if now == -1 or now > tonumber(ARGV[1]) or now >= tonumber(ARGV[2]) then return 0 end
        redis.call('PEXPIREAT', KEYS[1], ARGV[2])
        local form = '^\153' .. string.rep('\210....', 9) .. '$'
        if string.find(redis.call('GETRANGE', KEYS[1], -#ARGV[3], -1), form) then
            redis.call('SETRANGE', KEYS[1], redis.call('STRLEN', KEYS[1]) - #ARGV[3], ARGV[3])
        end
        return 1",
    )
});

/// ARGV: the record as it was, as it is to be, and when it expires. Answers whether it still was so.
static REPLACE: LazyLock<Script> = LazyLock::new(|| {
    Script::from_lua(
        r"if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
        redis.call('SET', KEYS[1], ARGV[2], 'PXAT', ARGV[3])
        return 1",
    )
});

impl<C> RedisStore<C> {
    /// Sessions under their ids, as tower-sessions-redis-store keeps them.
    pub fn new(client: C) -> Self {
        Self {
            client,
            prefix: String::new(),
        }
    }

    /// Sessions under their ids with `prefix` before them.
    #[must_use]
    pub fn with_key_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    fn key(&self, id: SessionId) -> String {
        format!("{}{id}", self.prefix)
    }
}

/// A client of fred, or a pool of them.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a client of fred 10",
    note = "`RedisStore` takes a `fred::clients::Client` or a `fred::clients::Pool`"
)]
pub trait Client:
    sealed::Client + KeysInterface + LuaInterface + fmt::Debug + Send + Sync + 'static
{
}

mod sealed {
    pub trait Client {}

    impl Client for fred::clients::Client {}

    impl Client for fred::clients::Pool {}
}

impl Client for fred::clients::Client {}

impl Client for fred::clients::Pool {}

impl<C: Client> RedisStore<C> {
    /// Answers whether the condition held.
    async fn set(&self, record: RecordRef<'_>, condition: SetOptions) -> Result<bool, StoreError> {
        let data =
            encoded::with_end(record).map_err(|error| StoreError::Encode(error.to_string()))?;
        let expiry = Expiration::PXAT(millis(record.expiry_date));
        // `OK` or nil. Asked for as a boolean, nil would be an error.
        let set: Option<String> = self
            .client
            .set(
                self.key(record.id),
                data.as_slice(),
                Some(expiry),
                Some(condition),
                false,
            )
            .await
            .map_err(backend)?;
        Ok(set.is_some())
    }

    /// A record's bytes, and when its key expires unless the record says so itself.
    async fn get(
        &self,
        id: SessionId,
    ) -> Result<Option<(Vec<u8>, Option<OffsetDateTime>)>, StoreError> {
        let key = self.key(id);
        let bytes: Option<Vec<u8>> = self.client.get(key.as_str()).await.map_err(backend)?;
        let Some(bytes) = bytes else {
            return Ok(None);
        };
        if encoded::has_end(&bytes) {
            return Ok(Some((bytes, None)));
        }
        // A key that never expires, or has just gone, leaves the record its own.
        let expiry: i64 = self.client.pexpire_time(key).await.map_err(backend)?;
        let expiry = Millis::new(expiry).filter(|_| expiry >= 0);
        Ok(Some((bytes, expiry.map(Into::into))))
    }

    async fn run(
        &self,
        script: &Script,
        id: SessionId,
        arguments: Vec<Value>,
    ) -> Result<i64, StoreError> {
        match self
            .client
            .evalsha(script.sha1().clone(), self.key(id), arguments.clone())
            .await
        {
            // The server has been restarted, or has never seen the script.
            Err(error) if error.details().starts_with("NOSCRIPT") => {
                let source = script.lua().cloned().unwrap_or_default();
                self.client
                    .eval(source, self.key(id), arguments)
                    .await
                    .map_err(backend)
            }
            answer => answer.map_err(backend),
        }
    }
}

fn millis(time: OffsetDateTime) -> i64 {
    Millis::from(time).into()
}

#[allow(clippy::needless_pass_by_value)] // As `map_err` passes it.
fn backend(error: fred::error::Error) -> StoreError {
    StoreError::Backend(error.to_string())
}

impl<C: Client, R: Release> OwnStore<R> for RedisStore<C> {
    async fn create(&self, record: &mut Record) -> Result<(), StoreError> {
        loop {
            if self.set(record.as_ref(), SetOptions::NX).await? {
                return Ok(());
            }
            record.id = SessionId(R::random_id());
        }
    }

    async fn save(&self, record: RecordRef<'_>) -> Result<(), StoreError> {
        self.set(record, SetOptions::XX).await.map(drop)
    }

    async fn load(&self, id: SessionId) -> Result<Option<Record>, StoreError> {
        let found = self.get(id).await?;
        found
            .map(|(bytes, expiry_date)| encoded::read(&bytes, expiry_date))
            .transpose()
    }

    async fn delete(&self, id: SessionId) -> Result<(), StoreError> {
        self.client.del(self.key(id)).await.map_err(backend)
    }
}

impl<C: Client> Touch for RedisStore<C> {
    async fn touch(
        &self,
        id: SessionId,
        due_before: OffsetDateTime,
        expiry: OffsetDateTime,
    ) -> Result<Touched, BoxError> {
        let touched = self
            .run(
                &TOUCH,
                id,
                vec![
                    millis(due_before).into(),
                    millis(expiry).into(),
                    Value::from(encoded::end(expiry).as_slice()),
                ],
            )
            .await?;
        Ok(match touched {
            1 => Touched::Done,
            0 => Touched::NotDue,
            _ => Touched::Gone,
        })
    }

    async fn touch_first(&self, touch: FirstTouch) -> Result<Option<Touched>, BoxError> {
        let Some((bytes, expiry_date)) = self.get(touch.id).await? else {
            return Ok(Some(Touched::Gone));
        };
        let record = match encoded::touched_first(&bytes, expiry_date, &touch)? {
            Ok(record) => record,
            Err(touched) => return Ok(Some(touched)),
        };
        let replacement = encoded::with_end(record.as_ref())?;
        let arguments = vec![
            Value::from(bytes.as_slice()),
            Value::from(replacement.as_slice()),
            millis(touch.expiry).into(),
        ];
        let is_replaced = self.run(&REPLACE, touch.id, arguments).await? == 1;
        // Else somebody has just written the session.
        Ok(Some(if is_replaced {
            Touched::Done
        } else {
            Touched::NotDue
        }))
    }

    async fn load_encoded(&self, id: SessionId) -> Result<EncodedLoad, StoreError> {
        Ok(match self.get(id).await? {
            None => EncodedLoad::Absent,
            Some((bytes, expiry_date)) => EncodedLoad::Found { bytes, expiry_date },
        })
    }
}

macro_rules! redis_store {
    ($release:ident, $tower_sessions:ident) => {
        session_store!($release, $tower_sessions, [C] RedisStore<C> where [C: Client]);
    };
}

for_each_release!(redis_store);
