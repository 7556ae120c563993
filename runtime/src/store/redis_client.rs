//! Clients of Redis, of each crate that this one knows: only calls and conversions.

/// A client of Redis or Valkey, of either crate that is enabled: fred's `Client` or `Pool` (feature `redis`), or redis'
/// `ConnectionManager`, `MultiplexedConnection` or `ClusterConnection` (feature `redis-rs`).
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a client of Redis that this build knows",
    note = "`RedisStore` takes a `Client` or `Pool` of fred 10 (feature `redis`), or a `ConnectionManager`, \
            `MultiplexedConnection` or `ClusterConnection` of redis 1 (feature `redis-rs`)"
)]
pub trait RedisClient: Clone + Send + Sync + 'static {
    /// Sends a command, whose argument number `key_at` is its key, counted from 0.
    #[doc(hidden)]
    fn run(
        &self,
        command: &'static str,
        key_at: usize,
        arguments: &[&[u8]],
    ) -> impl Future<Output = Result<Reply, Failure>> + Send;

    /// `GET`, of which every request sends one.
    #[doc(hidden)]
    fn get(&self, key: &[u8]) -> impl Future<Output = Result<Reply, Failure>> + Send {
        async move { self.run("GET", 0, &[key]).await }
    }
}

/// What the server answers to the commands that the store sends.
#[derive(Debug)]
pub enum Reply {
    /// Nothing is there, or a condition did not hold.
    Nil,
    Integer(i64),
    /// A value, or `OK`.
    Bytes(Vec<u8>),
}

/// Why a command was not run, in words that hold none of its arguments and nothing of an answer.
#[derive(Debug)]
pub struct Failure {
    pub(super) kind: FailureKind,
    pub(super) text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FailureKind {
    /// The server does not have the script of this hash.
    NoScript,
    /// The server's access control list does not allow the command. (What it says of keys is [`Other`](Self::Other).)
    Forbidden,
    /// The server has no such command.
    Unknown,
    /// The server has no memory for what the command would add.
    OutOfMemory,
    Other,
}

impl FailureKind {
    /// What a server's own words mean: those of Redis 5 to 8 and of Valkey, also of a command in a script.
    pub(super) fn of(text: &str) -> Self {
        let says = |words| text.contains(words);
        if text.starts_with("NOSCRIPT") {
            Self::NoScript
        } else if says("can't run this command") || says("no permissions to run") {
            // The first in scripts, before 7.2.
            Self::Forbidden
        } else if says("unknown command")
            || says("Unknown command")
            || says("Unknown Redis command")
        {
            Self::Unknown
        } else if says("OOM command not allowed") {
            Self::OutOfMemory
        } else {
            Self::Other
        }
    }
}

impl Failure {
    /// In the words of the server, or of a client that could not reach it.
    fn said(text: &str) -> Self {
        // Redis quotes what it does not understand: `unknown command 'X', with args beginning with: 'the key'`.
        let text = text.split(", with args").next().unwrap_or_default();
        Self {
            kind: FailureKind::of(text),
            text: text.to_owned(),
        }
    }

    /// Whether the server runs other commands, but not this one.
    pub(super) fn is_of_the_command(&self) -> bool {
        matches!(self.kind, FailureKind::Forbidden | FailureKind::Unknown)
    }

    /// An answer that the command does not have. It is not repeated: it may be anything.
    pub(super) fn unexpected() -> Self {
        Self {
            kind: FailureKind::Other,
            text: "Redis answered with something else than its command does".to_owned(),
        }
    }
}

#[cfg(feature = "redis")]
macro_rules! of_fred {
    ($($client:ty),*) => {$(
        impl RedisClient for $client {
            async fn run(
                &self,
                command: &'static str,
                key_at: usize,
                arguments: &[&[u8]],
            ) -> Result<Reply, Failure> {
                use fred::{
                    interfaces::ClientLike as _,
                    types::{ClusterHash, CustomCommand, Value},
                };

                let hash = ClusterHash::Offset(key_at);
                let command = CustomCommand::new_static(command, hash, false);
                let arguments: Vec<Value> = arguments.iter().map(|&bytes| bytes.into()).collect();
                of_fred_reply(self.custom(command, arguments).await)
            }

            /// By its own `get`: other requests' may go out with it, whereas a custom command goes out at once, by itself.
            async fn get(&self, key: &[u8]) -> Result<Reply, Failure> {
                use fred::interfaces::KeysInterface;

                of_fred_reply(KeysInterface::get(self, key).await)
            }
        }
    )*};
}

#[cfg(feature = "redis")]
fn of_fred_reply(reply: Result<fred::types::Value, fred::error::Error>) -> Result<Reply, Failure> {
    use fred::{error::ErrorKind, types::Value};

    match reply {
        Ok(Value::Null) => Ok(Reply::Nil),
        Ok(Value::Integer(number)) => Ok(Reply::Integer(number)),
        Ok(Value::String(text)) => Ok(Reply::Bytes(text.as_bytes().to_vec())),
        Ok(Value::Bytes(bytes)) => Ok(Reply::Bytes(bytes.to_vec())),
        Ok(_) => Err(Failure::unexpected()),
        Err(error) => Err(match error.kind() {
            // It may quote what it could not read.
            ErrorKind::Parse | ErrorKind::Protocol => Failure::unexpected(),
            _ => Failure::said(error.details()),
        }),
    }
}

#[cfg(feature = "redis")]
of_fred!(fred::clients::Client, fred::clients::Pool);

#[cfg(feature = "redis-rs")]
macro_rules! of_redis_rs {
    ($($client:ty),*) => {$(
        impl RedisClient for $client {
            // It finds the key of a command by itself.
            async fn run(
                &self,
                command: &'static str,
                _: usize,
                arguments: &[&[u8]],
            ) -> Result<Reply, Failure> {
                use redis_rs::{Cmd, ErrorKind, Value};

                let mut sent = Cmd::new();
                sent.arg(command).arg(arguments);
                match sent.query_async(&mut self.clone()).await {
                    Ok(Value::Nil) => Ok(Reply::Nil),
                    Ok(Value::Int(number)) => Ok(Reply::Integer(number)),
                    Ok(Value::Okay) => Ok(Reply::Bytes(b"OK".to_vec())),
                    Ok(Value::SimpleString(text)) => Ok(Reply::Bytes(text.into_bytes())),
                    Ok(Value::BulkString(bytes)) => Ok(Reply::Bytes(bytes)),
                    Ok(_) => Err(Failure::unexpected()),
                    Err(error) => Err(match (error.kind(), error.code()) {
                        // It may quote what it could not read.
                        (ErrorKind::Parse | ErrorKind::UnexpectedReturnType, _) => Failure::unexpected(),
                        (_, Some(code)) => {
                            Failure::said(&format!("{code} {}", error.detail().unwrap_or_default()))
                        }
                        (_, None) => Failure::said(&error.to_string()),
                    }),
                }
            }
        }
    )*};
}

#[cfg(feature = "redis-rs")]
of_redis_rs!(
    redis_rs::aio::ConnectionManager,
    redis_rs::aio::MultiplexedConnection,
    redis_rs::cluster_async::ClusterConnection
);

#[cfg(test)]
mod tests {
    use super::*;

    /// In the words of Redis 5, 6.2 and 7.0, and of 7.0 in a script.
    #[test]
    fn it_is_known_what_a_server_means_and_nothing_that_it_quotes_is_repeated() {
        use FailureKind::{Forbidden, NoScript, Other, OutOfMemory, Unknown};
        for (kind, said) in [
            (NoScript, "NOSCRIPT No matching script. Please use EVAL."),
            (
                Forbidden,
                "NOPERM this user has no permissions to run the 'evalsha' command",
            ),
            (
                Forbidden,
                "NOPERM this user has no permissions to run the 'evalsha' command or its subcommand",
            ),
            (
                Forbidden,
                "ERR The user executing the script can't run this command or subcommand script: 81f3, on @user_script:7.",
            ),
            (
                Forbidden,
                "NOPERM User web-access has no permissions to run the 'pexpiretime' command",
            ),
            (
                Forbidden,
                "ERR ACL failure in script: User web has no permissions to run the 'setrange' command script: 81f3, on @user_script:7.",
            ),
            (Other, "NOPERM No permissions to access a key"),
            (
                OutOfMemory,
                "OOM command not allowed when used memory > 'maxmemory'.",
            ),
            (
                Other,
                "NOPERM this user has no permissions to access one of the keys used as arguments",
            ),
            (
                Unknown,
                "ERR Unknown Redis command called from script script: 81f3, on @user_script:7.",
            ),
            (
                Unknown,
                "@user_script: 7: Unknown Redis command called from Lua script",
            ),
            (
                Other,
                "WRONGTYPE Operation against a key holding the wrong kind of value",
            ),
        ] {
            let failure = Failure::said(said);
            assert_eq!((failure.kind, &*failure.text), (kind, said));
        }
        for said in [
            "ERR unknown command 'EVALSHA', with args beginning with: 'the key' ",
            "ERR unknown command `EVALSHA`, with args beginning with: `the key`, ",
        ] {
            let failure = Failure::said(said);
            assert_eq!(failure.kind, Unknown);
            assert!(!failure.text.contains("the key"), "{}", failure.text);
        }
    }
}
