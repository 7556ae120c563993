//! Redis: upstream's keys and records, and an expiry that moves alone.
//!
//! A record ends with its expiry. Ours have it in a fixed width, which upstream's reader understands as well, so that a
//! touch can write over it in place, and a load need not ask for the key's expiry, too.

use std::{
    fmt,
    ops::RangeInclusive,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicBool, Ordering},
    },
};

use axum::BoxError;
use sha1_smol::Sha1;
use time::OffsetDateTime;

use super::{
    encoded,
    placement::Placement,
    redis_client::{Failure, FailureKind, RedisClient, Reply},
    release::{OwnStore, Record, RecordRef, SessionId, StoreError, session_store},
    touch::{EncodedLoad, FirstTouch, TRIES, Touch, Touched},
};
use crate::{
    schedule::Millis,
    session::{for_each_release, sealed::Release},
};

/// Redis 7 or later, or Valkey, with tower-sessions-redis-store's keys and records: an application can change to it and
/// back, and nobody is logged out. A store of both releases of tower-sessions, on fred 10 (feature `redis`) or redis 1
/// (feature `redis-rs`), with one server or a cluster.
///
/// A load is one `GET`, and a touch one script on the server. (A record that upstream has written says only in the key
/// when it expires, once it has been touched: it takes a second command until it is next saved.) Leave the keys' expiry
/// to the store: a load does not see what `EXPIRE` by hand does.
///
/// ```no_run
/// # #[cfg(feature = "redis")]
/// # async fn f() -> Result<(), Box<dyn std::error::Error>> {
/// use fred::prelude::*;
/// use session_refresh::{LifetimeLayer, store::RedisStore};
/// use tower_sessions::SessionManagerLayer;
///
/// let pool = Pool::new(Config::from_url("redis://localhost")?, None, None, None, 6)?;
/// pool.init().await?;
/// let store = RedisStore::new(pool);
/// store.check().await?;
/// let sessions = LifetimeLayer::new(store, |store| SessionManagerLayer::new(store));
/// # let _: axum::Router = axum::Router::new().layer(sessions); Ok(()) }
/// ```
///
/// With redis:
///
/// ```no_run
/// # #[cfg(feature = "redis-rs")]
/// # async fn f() -> Result<(), Box<dyn std::error::Error>> {
/// # use redis_rs as redis;
/// use redis::{Client, aio::ConnectionManager};
/// use session_refresh::store::RedisStore;
///
/// let client = Client::open("redis://localhost")?;
/// let store = RedisStore::new(ConnectionManager::new(client).await?);
/// store.check().await?;
/// # Ok(()) }
/// ```
///
/// # Access control
///
/// Where the server has access control lists, the store's user needs these commands on the sessions' keys, which are 22
/// characters long unless [a prefix](Self::with_key_prefix) precedes them:
///
/// ```text
/// ACL SETUSER sessions on >password ~session:*
///     +get +set +del +eval +evalsha +pexpiretime +pexpireat +getrange +strlen +setrange
/// ```
///
/// and whatever its client sends on its own account, such as `+client +hello +info +ping`. Without the commands of the second
/// line but `get`, `set` and `del`, sessions are read and written, and refreshes are `unavailable`. [`check`](Self::check)
/// names what is missing.
#[derive(Clone)]
pub struct RedisStore<C> {
    client: C,
    prefix: String,
    placement: Placement,
    /// A [`check`](Self::check) has found nothing missing. Clones share it.
    is_checked: Arc<AtomicBool>,
}

/// A script, and the hash by which the server knows it once it has seen it.
struct Script {
    source: &'static str,
    sha1: String,
}

impl Script {
    /// Of ASCII alone: some clients and servers take nothing else.
    fn new(source: &'static str) -> Self {
        let sha1 = Sha1::from(source).digest().to_string();
        Self { source, sha1 }
    }
}

/// ARGV: due from and until, expiry, and that as the [`end`](encoded::end) of a record. Answers 1 for done, 0 for not due, 2 for
/// shortened meanwhile and -2, as Redis does, for gone. A key that never expires is never due. The expiry first: a server that
/// is out of memory refuses a script whose first write might need more.
static TOUCH: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"local now = redis.call('PEXPIRETIME', KEYS[1])
        if now == -2 then return now end
        if now == -1 or now > tonumber(ARGV[2]) or now >= tonumber(ARGV[3]) then return 0 end
        if now < tonumber(ARGV[1]) then return 2 end
        redis.call('PEXPIREAT', KEYS[1], ARGV[3])
        local form = '^\153' .. string.rep('\210....', 9) .. '$'
        if string.find(redis.call('GETRANGE', KEYS[1], -#ARGV[4], -1), form) then
            redis.call('SETRANGE', KEYS[1], redis.call('STRLEN', KEYS[1]) - #ARGV[4], ARGV[4])
        end
        return 1",
    )
});

/// ARGV: the record, when it expires, and that as its [`end`](encoded::end). Keeps what ends later, and says so in the key and in the record. Where the record does
/// not, since upstream has written it, it ends as is said.
static SAVE_PASSIVELY: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"local now = redis.call('PEXPIRETIME', KEYS[1])
        if now == -2 then return now end
        local record, expiry = ARGV[1], ARGV[2]
        local tail = redis.call('GETRANGE', KEYS[1], -#ARGV[3], -1)
        if now > tonumber(expiry) and string.find(tail, '^\153' .. string.rep('\210....', 9) .. '$') then
            record, expiry = string.sub(record, 1, -#ARGV[3] - 1) .. tail, now
        end
        redis.call('SET', KEYS[1], record, 'PXAT', expiry)
        return 1",
    )
});

/// ARGV: the record as it was, as it is to be, and when it expires. Answers whether it still was so.
static REPLACE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
        redis.call('SET', KEYS[1], ARGV[2], 'PXAT', ARGV[3])
        return 1",
    )
});

/// Tries each command of the scripts, on a key that does not exist, so that nothing is written. Answers with a line for each
/// that is refused: its name and the server's words.
static CHECK: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"local refused = ''
        for _, command in ipairs({
            {'GET'}, {'SET', '', 'XX'}, {'PEXPIRETIME'}, {'PEXPIREAT', '9999999999999'},
            {'GETRANGE', '0', '0'}, {'STRLEN'}, {'SETRANGE', '0', ''}
        }) do
            local answer = redis.pcall(command[1], KEYS[1], unpack(command, 2))
            if type(answer) == 'table' and answer.err then
                refused = refused .. command[1] .. ' ' .. answer.err .. '\n'
            end
        end
        return refused",
    )
});

impl<C> RedisStore<C> {
    /// Sessions under their ids, as tower-sessions-redis-store keeps them.
    pub fn new(client: C) -> Self {
        Self {
            client,
            prefix: String::new(),
            placement: Placement::default(),
            is_checked: Arc::default(),
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

/// Why [`RedisStore::check`] fails.
#[derive(Clone, Debug)]
pub struct RedisCheckError(String);

impl fmt::Display for RedisCheckError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for RedisCheckError {}

impl From<Failure> for RedisCheckError {
    fn from(failure: Failure) -> Self {
        Self(failure.text)
    }
}

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> Self {
        Self::Backend(failure.text)
    }
}

impl<C: RedisClient> RedisStore<C> {
    /// Asks the server whether it runs every command that sessions and their refreshes need: an access control list may forbid
    /// some, and a server before Redis 7 does not know `PEXPIRETIME`. Nothing is written. In a cluster, one node answers.
    ///
    /// Call it at start-up. Without that, the first refresh asks, and fails with the same text in its event.
    ///
    /// # Errors
    /// If commands are missing, which the error names, or the server can't be asked.
    pub async fn check(&self) -> Result<(), RedisCheckError> {
        let (mut forbidden, mut unknown) = (Vec::<String>::new(), Vec::new());
        // Whether it is known now if the server would run the command.
        let mut learns = |command: &str, kind| {
            let commands = match kind {
                FailureKind::Forbidden => &mut forbidden,
                FailureKind::Unknown => &mut unknown,
                // It would, if it had the script or the memory.
                FailureKind::NoScript | FailureKind::OutOfMemory => return true,
                FailureKind::Other => return false,
            };
            if !commands.iter().any(|known| known == command) {
                commands.push(command.to_owned());
            }
            true
        };
        // No session has this id, a number of 128 random bits.
        let key = self.key(SessionId(0));
        let (key, source, sha1) = (
            key.as_bytes(),
            CHECK.source.as_bytes(),
            CHECK.sha1.as_bytes(),
        );
        let mut in_scripts = Reply::Nil;
        for (command, key_at, arguments) in [
            ("GET", 0, &[key][..]),
            ("SET", 0, &[key, b"", b"XX"]),
            ("DEL", 0, &[key]),
            ("PEXPIRETIME", 0, &[key]),
            ("EVAL", 2, &[source, b"1", key]),
            ("EVALSHA", 2, &[sha1, b"1", key]),
        ] {
            match self.client.run(command, key_at, arguments).await {
                Ok(reply) if command == "EVAL" => in_scripts = reply,
                Ok(_) => {}
                Err(failure) if learns(command, failure.kind) => {}
                Err(failure) => return Err(failure.into()),
            }
        }
        if let Reply::Bytes(lines) = in_scripts {
            for line in String::from_utf8_lossy(&lines).lines() {
                let (command, words) = line.split_once(' ').unwrap_or((line, ""));
                if !learns(command, FailureKind::of(words)) {
                    return Err(RedisCheckError(line.to_owned()));
                }
            }
        }
        let mut missing = Vec::new();
        if !forbidden.is_empty() {
            missing.push(format!(
                "its access control list forbids {}",
                forbidden.join(", ")
            ));
        }
        if !unknown.is_empty() {
            missing.push(format!(
                "it does not know {} (it is older than Redis 7, or a command was renamed)",
                unknown.join(", ")
            ));
        }
        if missing.is_empty() {
            self.is_checked.store(true, Ordering::Relaxed);
            return Ok(());
        }
        Err(RedisCheckError(format!(
            "Redis lacks commands that sessions or their refreshes need: {}",
            missing.join("; ")
        )))
    }

    /// Answers whether the condition held.
    async fn set(&self, record: RecordRef<'_>, condition: &[u8]) -> Result<bool, StoreError> {
        let data = encode(record)?;
        let (key, expiry) = (self.key(record.id), millis(record.expiry_date));
        let arguments: [&[u8]; 5] = [key.as_bytes(), &data, b"PXAT", expiry.as_bytes(), condition];
        let reply = self.client.run("SET", 0, &arguments).await?;
        Ok(!matches!(reply, Reply::Nil))
    }

    /// Checks the server unless it has been found able.
    async fn is_able(&self) -> Result<(), RedisCheckError> {
        if self.is_checked.load(Ordering::Relaxed) {
            return Ok(());
        }
        self.check().await
    }

    /// A record's bytes, and when its key expires unless the record says so itself.
    async fn get(
        &self,
        id: SessionId,
    ) -> Result<Option<(Vec<u8>, Option<OffsetDateTime>)>, StoreError> {
        let key = self.key(id);
        let bytes = match self.client.get(key.as_bytes()).await? {
            Reply::Bytes(bytes) => bytes,
            Reply::Nil => return Ok(None),
            Reply::Integer(_) => return Err(Failure::unexpected().into()),
        };
        if encoded::has_end(&bytes) {
            return Ok(Some((bytes, None)));
        }
        let expiry = match self.client.run("PEXPIRETIME", 0, &[key.as_bytes()]).await {
            // A key that never expires, or has just gone, leaves the record its own.
            Ok(Reply::Integer(expiry)) if expiry >= 0 => Millis::new(expiry),
            Ok(_) => None,
            // So does a server without this command: no touch has moved the key's expiry there.
            Err(failure) if failure.is_of_the_command() => None,
            Err(failure) => return Err(failure.into()),
        };
        Ok(Some((bytes, expiry.map(Into::into))))
    }

    async fn run(
        &self,
        script: &Script,
        id: SessionId,
        values: &[&[u8]],
    ) -> Result<i64, StoreError> {
        // A server that does not know `EVALSHA` quotes its arguments. Of those that are no text clients can't read the answer,
        // and some lose their connection: so nobody asks before it is known.
        let able = self.is_able().await;
        able.map_err(|missing| StoreError::Backend(missing.0))?;
        let key = self.key(id);
        let with = |script| [&[script, b"1" as &[u8], key.as_bytes()], values].concat();
        let by_hash = self
            .client
            .run("EVALSHA", 2, &with(script.sha1.as_bytes()))
            .await;
        let reply = match by_hash {
            // The server has been restarted, or has never seen the script.
            Err(failure) if failure.kind == FailureKind::NoScript => {
                self.client
                    .run("EVAL", 2, &with(script.source.as_bytes()))
                    .await
            }
            reply => reply,
        };
        match reply? {
            Reply::Integer(number) => Ok(number),
            _ => Err(Failure::unexpected().into()),
        }
    }
}

/// As the server keeps a record.
fn encode(record: RecordRef<'_>) -> Result<Vec<u8>, StoreError> {
    encoded::with_end(record).map_err(|error| StoreError::Encode(error.to_string()))
}

/// As the server takes a time.
fn millis(time: OffsetDateTime) -> String {
    i64::from(Millis::from(time)).to_string()
}

impl<C: RedisClient, R: Release> OwnStore<R> for RedisStore<C> {
    async fn create(&self, record: &mut Record) -> Result<(), StoreError> {
        loop {
            if self.set(record.as_ref(), b"NX").await? {
                return Ok(());
            }
            record.id = SessionId(R::random_id());
        }
    }

    async fn save(&self, record: RecordRef<'_>) -> Result<(), StoreError> {
        self.set(record, b"XX").await.map(drop)
    }

    async fn load(&self, id: SessionId) -> Result<Option<Record>, StoreError> {
        self.placement.loads_for_another_layer("RedisStore");
        let found = self.get(id).await?;
        found
            .map(|(bytes, expiry_date)| encoded::read(&bytes, expiry_date))
            .transpose()
    }

    async fn delete(&self, id: SessionId) -> Result<(), StoreError> {
        let key = self.key(id);
        self.client.run("DEL", 0, &[key.as_bytes()]).await?;
        Ok(())
    }
}

impl<C: RedisClient> Touch for RedisStore<C> {
    async fn touch(
        &self,
        id: SessionId,
        due: RangeInclusive<OffsetDateTime>,
        expiry: OffsetDateTime,
    ) -> Result<Touched, BoxError> {
        let (end, expiry) = (encoded::end(expiry), millis(expiry));
        let (from, to) = (millis(*due.start()), millis(*due.end()));
        let values = [from.as_bytes(), to.as_bytes(), expiry.as_bytes(), &end];
        Ok(match self.run(&TOUCH, id, &values).await? {
            1 => Touched::Done,
            0 => Touched::NotDue,
            2 => Touched::Shortened,
            _ => Touched::Gone,
        })
    }

    async fn touch_first(&self, touch: FirstTouch) -> Result<Option<Touched>, BoxError> {
        // Somebody else may write the session between its load and its replacement.
        for _ in 0..TRIES {
            let Some((bytes, expiry_date)) = self.get(touch.id).await? else {
                return Ok(Some(Touched::Gone));
            };
            let record = match encoded::touched_first(&bytes, expiry_date, &touch)? {
                Ok(record) => record,
                Err(touched) => return Ok(Some(touched)),
            };
            let (replacement, expiry) = (encode(record.as_ref())?, millis(touch.expiry));
            let values: [&[u8]; 3] = [&bytes, &replacement, expiry.as_bytes()];
            if self.run(&REPLACE, touch.id, &values).await? == 1 {
                return Ok(Some(Touched::Done));
            }
        }
        Ok(Some(Touched::NotDue))
    }

    async fn save_passively(&self, record: &Record) -> Result<Option<()>, StoreError> {
        // Where scripts are forbidden, nobody extends a session meanwhile either.
        if self.is_able().await.is_err() {
            return Ok(None);
        }
        let (bytes, end) = (encode(record.as_ref())?, encoded::end(record.expiry_date));
        let expiry = millis(record.expiry_date);
        let values: [&[u8]; 3] = [&bytes, expiry.as_bytes(), &end];
        self.run(&SAVE_PASSIVELY, record.id, &values).await?;
        Ok(Some(()))
    }

    async fn load_encoded(&self, id: SessionId) -> Result<EncodedLoad, StoreError> {
        Ok(match self.get(id).await? {
            None => EncodedLoad::Absent,
            Some((bytes, expiry_date)) => EncodedLoad::Found { bytes, expiry_date },
        })
    }

    fn is_in_lifetime_layer(&self) {
        self.placement.is_in_lifetime_layer();
    }
}

/// Without its client, of which not every kind can be printed.
impl<C> fmt::Debug for RedisStore<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStore")
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}

macro_rules! redis_store {
    ($release:ident, $tower_sessions:ident) => {
        session_store!($release, $tower_sessions, [C] RedisStore<C> where [C: RedisClient]);
    };
}

for_each_release!(redis_store);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_are_ascii() {
        for script in [&TOUCH, &REPLACE, &CHECK] {
            assert!(script.source.is_ascii(), "{}", script.source);
        }
    }
}
