//! What travels inside a loaded record: the engine's knowledge of the store behind the session.
//!
//! tower-sessions keeps its store, its record and the record's expiry private, so what `RefreshStore` knows at load
//! reaches the engine as an entry of the record's data. Its key is random per process: no application's key collides
//! with it, nobody can forge it, and it never reaches the store.

use std::{
    collections::HashSet,
    hash::{BuildHasher as _, RandomState},
    sync::{
        LazyLock, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use serde_json::Value;
use time::OffsetDateTime;

use crate::{
    schedule::Millis,
    session::{Session, SessionError},
    store::Data,
    store::original::Fingerprint,
};

/// The entry's key. Short, since it is hashed several times on each request.
static KEY: LazyLock<String> = LazyLock::new(|| {
    // The standard library's hasher is keyed from the system's generator, and nobody learns its key.
    let random = RandomState::new();
    let random = [0, 1].map(|half| random.hash_one(half).to_ne_bytes());
    BASE64_URL_SAFE_NO_PAD.encode(random.as_flattened())
});

/// Whether any record of this process can carry knowledge: spares applications without a `RefreshStore` the look.
static CARRYING: AtomicBool = AtomicBool::new(false);

/// Whether some `RefreshStore` is in use.
pub(crate) fn is_enabled() -> bool {
    CARRYING.load(Ordering::Relaxed)
}

/// From now on, records carry knowledge.
pub(crate) fn enable() {
    CARRYING.store(true, Ordering::Relaxed);
}

/// What is known of a loaded record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Loaded {
    /// When it expires in the store, as far as this load and its refresh know.
    pub(crate) expiry: Millis,
    /// How far the store's clock is ahead of this machine's: not at all, unless a test says so.
    pub(crate) clock_ahead: time::Duration,
    /// Whether this load's refresh has touched it: to `expiry`.
    pub(crate) touched: bool,
    /// Which load this is: no other in this process has the same number.
    number: u64,
    /// Of the data as loaded.
    fingerprint: Fingerprint,
}

impl From<Loaded> for Value {
    fn from(loaded: Loaded) -> Self {
        let ahead = i64::try_from(loaded.clock_ahead.whole_milliseconds()).unwrap_or(i64::MAX);
        let [of_bytes, hash] = loaded.fingerprint.to_json();
        Value::Array(vec![
            loaded.expiry.into(),
            ahead.into(),
            loaded.touched.into(),
            loaded.number.into(),
            of_bytes,
            hash,
        ])
    }
}

impl Loaded {
    fn from_value(value: &Value) -> Option<Self> {
        let [expiry, ahead, touched, number, of_bytes, hash] = value.as_array()?.as_slice() else {
            return None;
        };
        Some(Self {
            expiry: Millis::new(expiry.as_i64()?)?,
            clock_ahead: time::Duration::milliseconds(ahead.as_i64()?),
            touched: touched.as_bool()?,
            number: number.as_u64()?,
            fingerprint: Fingerprint::from_json(of_bytes, hash)?,
        })
    }

    /// As the engine reads it: `None` if the session's store can't tell. Loads the record if nobody has yet.
    pub(crate) async fn of_session(session: &Session) -> Result<Option<Self>, SessionError> {
        if !is_enabled() {
            return Ok(None);
        }
        let value = session.get_value(&KEY).await?;
        Ok(value.as_ref().and_then(Self::from_value))
    }

    /// As a save reads it: `None` for a record that was not loaded from a `RefreshStore`, or was cleared since.
    pub(crate) fn of(data: &Data) -> Option<Self> {
        data.get(&*KEY).and_then(Self::from_value)
    }

    /// Marks a session as modified, so that `SessionManagerLayer` sends its cookie again, and its record as touched, so
    /// that the save that comes with it writes nothing.
    pub(crate) async fn mark_touched(
        self,
        session: &Session,
        expiry: Millis,
    ) -> Result<(), SessionError> {
        let touched = Self {
            expiry,
            touched: true,
            ..self
        };
        session.insert_value(&KEY, touched.into()).await
    }

    /// Whether the data is what was loaded.
    pub(crate) fn is_data(self, data: &Data) -> bool {
        self.fingerprint.is_of(entries(data))
    }

    /// What will be known of data that is known to be what was loaded, whatever its bytes in the store were.
    pub(crate) fn confirmed(self, data: &Data) -> Self {
        let fingerprint = if matches!(self.fingerprint, Fingerprint::Values(_)) {
            self.fingerprint
        } else {
            Fingerprint::of_values(entries(data))
        };
        Self {
            fingerprint,
            ..self
        }
    }

    /// Remembers that this load's record was written in full. From then on equal data no longer means that the store
    /// holds it: a handler may save a change itself and then undo it.
    pub(crate) fn rewritten(self) {
        REWRITTEN.insert(self.number);
    }

    /// Whether the store surely holds the data that was loaded, or what others have made of it since.
    ///
    /// A load whose refresh was done was unmodified then, so its age does not count.
    pub(crate) fn never_rewritten(self) -> bool {
        REWRITTEN.surely_lacks(self.number, self.touched)
    }
}

/// Puts into a freshly loaded record what the engine and the next save want to know. Its store may have a fingerprint.
pub(crate) fn attach(
    data: &mut Data,
    expiry: OffsetDateTime,
    clock_ahead: time::Duration,
    fingerprint: Option<Fingerprint>,
) {
    static LOADS: AtomicU64 = AtomicU64::new(0);
    let loaded = Loaded {
        expiry: expiry.into(),
        clock_ahead,
        touched: false,
        number: LOADS.fetch_add(1, Ordering::Relaxed),
        fingerprint: fingerprint.unwrap_or_else(|| Fingerprint::of_values(entries(data))),
    };
    data.insert(KEY.clone(), loaded.into());
    REWRITTEN.seen(&LOADS);
}

/// Removes what [`attach`] put in.
pub(crate) fn strip(data: &mut Data) {
    data.remove(&*KEY);
}

/// The application's own data.
pub(crate) fn stripped(data: &Data) -> Data {
    entries(data)
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}

/// The application's own entries.
fn entries(data: &Data) -> impl Iterator<Item = (&String, &Value)> {
    data.iter().filter(|(key, _)| *key != &*KEY)
}

/// The loads whose records were written in full, each remembered for at least [`RETENTION`].
static REWRITTEN: LazyLock<Rewritten> = LazyLock::new(|| Rewritten::new(RETENTION));

/// Longer than requests take. A record that is held for longer, and saved unchanged by something else than a refresh, is
/// written in full, as without us. Each request that changes its session costs a number for up to twice as long.
const RETENTION: Duration = Duration::from_secs(600);

struct Rewritten {
    retention: Duration,
    /// The number of the next load, as far as it was seen.
    next: AtomicU64,
    generations: Mutex<Generations>,
}

struct Generations {
    since: Instant,
    /// The number of the next load when `current` began, and when `previous` did.
    current_from: u64,
    previous_from: u64,
    current: HashSet<u64>,
    previous: HashSet<u64>,
}

impl Rewritten {
    fn new(retention: Duration) -> Self {
        Self {
            retention,
            next: AtomicU64::new(0),
            generations: Mutex::new(Generations {
                since: Instant::now(),
                current_from: 0,
                previous_from: 0,
                current: HashSet::new(),
                previous: HashSet::new(),
            }),
        }
    }

    fn seen(&self, loads: &AtomicU64) {
        self.next
            .fetch_max(loads.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    fn insert(&self, load: u64) {
        self.with(|generations| {
            generations.current.insert(load);
        });
    }

    fn surely_lacks(&self, load: u64, whatever_its_age: bool) -> bool {
        self.with(|generations| {
            (whatever_its_age || load >= generations.previous_from)
                && !generations.current.contains(&load)
                && !generations.previous.contains(&load)
        })
    }

    fn with<T>(&self, f: impl FnOnce(&mut Generations) -> T) -> T {
        let mut generations = self
            .generations
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if generations.since.elapsed() >= self.retention {
            let generations = &mut *generations;
            generations.previous = std::mem::take(&mut generations.current);
            generations.previous_from = generations.current_from;
            generations.current_from = self.next.load(Ordering::Relaxed);
            generations.since = Instant::now();
        }
        f(&mut generations)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn data(value: Value) -> Data {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn what_is_attached_is_not_data() {
        let mut record = data(json!({"a": 1}));
        let expiry = OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap();
        attach(&mut record, expiry, time::Duration::ZERO, None);
        assert_eq!(stripped(&record), data(json!({"a": 1})));
        let loaded = Loaded::of(&record).unwrap();
        assert!(loaded.is_data(&record) && loaded.expiry == expiry.into() && !loaded.touched);
        record.insert("a".into(), json!(2));
        assert!(!loaded.is_data(&record));
        strip(&mut record);
        assert_eq!(record, data(json!({"a": 2})));
        assert_eq!(Loaded::of(&record), None);
    }

    #[test]
    fn a_rewritten_load_is_never_forgotten_while_it_counts_as_known() {
        let rewritten = Rewritten::new(Duration::ZERO); // Every call begins a new generation.
        rewritten.next.store(10, Ordering::Relaxed);
        rewritten.insert(7);
        assert!(!rewritten.surely_lacks(7, false)); // In the previous generation.
        for _ in 0..3 {
            assert!(!rewritten.surely_lacks(7, false)); // Forgotten, and older than what is known.
        }
        assert!(rewritten.surely_lacks(8, true)); // Old, but known to have been unmodified when it was refreshed.
        let rewritten = Rewritten::new(RETENTION);
        rewritten.insert(7);
        assert!(!rewritten.surely_lacks(7, false));
        assert!(rewritten.surely_lacks(8, false));
    }
}
