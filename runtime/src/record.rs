//! What travels inside a loaded record: the engine's knowledge of the store behind the session.
//!
//! tower-sessions keeps its store, its record and the record's expiry private, so what `RefreshStore` knows at load
//! reaches the engine as entries of the record's data. Their keys have a part that is random per process: no
//! application's key collides with them, nobody can forge them, and none of them ever reaches the store.

use std::{
    collections::HashSet,
    hash::{BuildHasher, Hasher, RandomState},
    sync::{
        LazyLock, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::Value;
use time::OffsetDateTime;

use crate::{
    schedule,
    session::{Session, SessionError},
    store::Data,
};

/// The keys of the entries.
struct Keys {
    /// When the record expires in the store, and how far the store's clock is ahead if a test has one.
    expiry: String,
    /// Which load this is, as a number that no other load in this process has.
    load: String,
    /// The fingerprint of the data as loaded.
    fingerprint: String,
    /// When the record expires since this load's refresh touched it.
    touched: String,
}

static KEYS: LazyLock<Keys> = LazyLock::new(|| {
    // The standard library's hasher is keyed from the system's generator, and nobody learns its key.
    let random = RandomState::new();
    let key = |name: &str| {
        let [first, second] = [0, 1].map(|half| random.hash_one((half, name)));
        format!("session_refresh.{first:016x}{second:016x}.{name}")
    };
    Keys {
        expiry: key("expiry"),
        load: key("load"),
        fingerprint: key("fingerprint"),
        touched: key("touched"),
    }
});

impl Keys {
    fn contains(&self, key: &str) -> bool {
        key == self.expiry || key == self.load || key == self.fingerprint || key == self.touched
    }
}

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

/// A record's expiry in the store, as the engine reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Expiring {
    pub(crate) at: OffsetDateTime,
    /// How far the store's clock is ahead of this machine's: not at all, unless a test says so.
    pub(crate) clock_ahead: time::Duration,
}

/// The true expiry of a session's record; `None` if its store can't tell. Loads the record if nobody has yet.
pub(crate) async fn expiring(session: &Session) -> Result<Option<Expiring>, SessionError> {
    if !is_enabled() {
        return Ok(None);
    }
    Ok(session
        .get_value(&KEYS.expiry)
        .await?
        .as_ref()
        .and_then(|value| {
            let (expiry, clock_ahead) = match value {
                Value::Array(both) => (both.first()?.as_i64()?, both.get(1)?.as_i64()?),
                expiry => (expiry.as_i64()?, 0),
            };
            Some(Expiring {
                at: schedule::from_millis(expiry)?,
                clock_ahead: time::Duration::milliseconds(clock_ahead),
            })
        }))
}

/// Marks a session as modified, so that `SessionManagerLayer` sends its cookie again, and its record as touched, so
/// that the save that comes with it writes nothing.
pub(crate) async fn mark_touched(
    session: &Session,
    expiry: OffsetDateTime,
) -> Result<(), SessionError> {
    session
        .insert_value(&KEYS.touched, schedule::to_stamp(expiry))
        .await
}

/// Puts into a freshly loaded record what the engine and the next save want to know.
pub(crate) fn attach(data: &mut Data, expiry: OffsetDateTime, clock_ahead: time::Duration) {
    static LOADS: AtomicU64 = AtomicU64::new(0);
    let fingerprint = fingerprint(data);
    let expiry = schedule::to_stamp(expiry);
    let expiry = if clock_ahead.is_zero() {
        expiry
    } else {
        let ahead = i64::try_from(clock_ahead.whole_milliseconds()).unwrap_or(i64::MAX);
        Value::Array(vec![expiry, Value::from(ahead)])
    };
    data.reserve(3);
    data.insert(KEYS.expiry.clone(), expiry);
    data.insert(
        KEYS.load.clone(),
        Value::from(LOADS.fetch_add(1, Ordering::Relaxed)),
    );
    data.insert(KEYS.fingerprint.clone(), Value::from(fingerprint));
    REWRITTEN.seen(&LOADS);
}

/// Removes what [`attach`] put in.
pub(crate) fn strip(data: &mut Data) {
    data.retain(|key, _| !KEYS.contains(key));
}

/// The application's own data.
pub(crate) fn stripped(data: &Data) -> Data {
    data.iter()
        .filter(|(key, _)| !KEYS.contains(key))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}

/// What a record says about its load when it comes to be saved.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    number: u64,
    pub(crate) expiry: OffsetDateTime,
    /// Whether the data is what was loaded.
    pub(crate) unchanged: bool,
    /// When this load's refresh has already touched the record: its expiry since then.
    pub(crate) touched: Option<OffsetDateTime>,
}

impl Load {
    /// `None` for a record that was not loaded from a `RefreshStore`, or whose data was cleared since.
    pub(crate) fn of(data: &Data) -> Option<Self> {
        let number = data.get(&KEYS.load)?.as_u64()?;
        let expiry = match data.get(&KEYS.expiry)? {
            Value::Array(both) => both.first()?.as_i64()?,
            expiry => expiry.as_i64()?,
        };
        Some(Self {
            number,
            expiry: schedule::from_millis(expiry)?,
            unchanged: data.get(&KEYS.fingerprint)?.as_u64()? == fingerprint(data),
            touched: data
                .get(&KEYS.touched)
                .and_then(Value::as_i64)
                .and_then(schedule::from_millis),
        })
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
        REWRITTEN.surely_lacks(self.number, self.touched.is_some())
    }
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

/// A hash of the application's data that does not depend on the order of keys, at any depth.
///
/// Keyed per process (SipHash), so that whoever controls the values can't look for two sessions that have the same one.
fn fingerprint(data: &Data) -> u64 {
    static KEY: LazyLock<RandomState> = LazyLock::new(RandomState::new);
    fn entry(key: &str, value: &Value) -> u64 {
        let mut hasher = KEY.build_hasher();
        text(key, &mut hasher);
        hash(value, &mut hasher);
        hasher.finish()
    }
    // Keys differ, so no two entries' hashes cancel each other out.
    fn entries<'a>(entries: impl Iterator<Item = (&'a String, &'a Value)>) -> u64 {
        entries.fold(0, |sum, (key, value)| sum.wrapping_add(entry(key, value)))
    }
    fn text(text: &str, hasher: &mut impl Hasher) {
        hasher.write_usize(text.len());
        hasher.write(text.as_bytes());
    }
    // Each type has a tag and each variable length is written first: different values write different bytes.
    fn hash(value: &Value, hasher: &mut impl Hasher) {
        match value {
            Value::Null => hasher.write_u8(0),
            Value::Bool(false) => hasher.write_u8(1),
            Value::Bool(true) => hasher.write_u8(2),
            Value::Number(number) => {
                if let Some(number) = number.as_u64() {
                    hasher.write_u8(3);
                    hasher.write_u64(number);
                } else if let Some(number) = number.as_i64() {
                    hasher.write_u8(4);
                    hasher.write_i64(number);
                } else {
                    // As text: exact, also where serde_json keeps numbers of any precision.
                    hasher.write_u8(5);
                    text(&number.to_string(), hasher);
                }
            }
            Value::String(string) => {
                hasher.write_u8(6);
                text(string, hasher);
            }
            Value::Array(values) => {
                hasher.write_u8(7);
                hasher.write_usize(values.len());
                for value in values {
                    hash(value, hasher);
                }
            }
            Value::Object(object) => {
                hasher.write_u8(8);
                hasher.write_usize(object.len());
                hasher.write_u64(entries(object.iter()));
            }
        }
    }
    entries(data.iter().filter(|(key, _)| !KEYS.contains(key)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn data(value: Value) -> Data {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn the_fingerprint_covers_every_type_and_every_bit() {
        let values = [
            json!(null),
            json!(false),
            json!(true),
            json!(0),
            json!(1),
            json!(-1),
            json!(u64::MAX),
            json!(i64::MIN),
            json!(1.0),
            json!(1.5),
            json!(f64::MAX),
            json!(f64::from_bits(1)),
            // The same 64 bits as other types.
            json!(1.0_f64.to_bits()),
            json!(i64::MIN.cast_unsigned()),
            json!(""),
            json!("0"),
            json!("1"),
            json!("null"),
            json!("a"),
            json!("A"),
            json!("a\0"),
            json!([]),
            json!([null]),
            json!([[]]),
            json!([[], []]),
            json!(["a", "b"]),
            json!(["b", "a"]),
            json!(["ab"]),
            json!([1, 2]),
            json!([[1], 2]),
            json!([[1, 2]]),
            json!({}),
            json!({"a": null}),
            json!({"a": {}}),
            json!({"a": {"b": 1}}),
            json!({"a": 1, "b": 2}),
            json!({"a": 2, "b": 1}),
            json!({"a": {"b": 1}, "c": 2}),
            json!({"a": {"b": 1, "c": 2}}),
        ];
        let prints: HashSet<_> = values
            .iter()
            .map(|value| fingerprint(&data(json!({"key": value}))))
            .collect();
        assert_eq!(prints.len(), values.len());
        assert_ne!(
            fingerprint(&data(json!({"a": 1}))),
            fingerprint(&data(json!({"b": 1})))
        );
        assert_ne!(
            fingerprint(&data(json!({"a": 1, "b": 2}))),
            fingerprint(&data(json!({"a": 2, "b": 1})))
        );
        assert_ne!(
            fingerprint(&data(json!({}))),
            fingerprint(&data(json!({"a": null})))
        );
    }

    #[test]
    fn the_fingerprint_does_not_depend_on_the_order_of_keys() {
        let mut pairs: Vec<_> = (0..50)
            .map(|index| (format!("key{index}"), json!({"x": index, "y": [index]})))
            .collect();
        let nested = |pairs: &[(String, Value)]| {
            let object: serde_json::Map<_, _> = pairs.iter().cloned().collect();
            data(json!({"object": object}))
        };
        let (flat, deep) = (
            fingerprint(&pairs.iter().cloned().collect()),
            fingerprint(&nested(&pairs)),
        );
        pairs.reverse();
        assert_eq!(flat, fingerprint(&pairs.iter().cloned().collect()));
        assert_eq!(deep, fingerprint(&nested(&pairs)));
    }

    #[test]
    fn what_is_attached_is_not_data() {
        let mut record = data(json!({"a": 1}));
        let before = fingerprint(&record);
        let expiry = OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap();
        attach(&mut record, expiry, time::Duration::ZERO);
        assert_eq!(fingerprint(&record), before);
        assert_eq!(stripped(&record), data(json!({"a": 1})));
        let load = Load::of(&record).unwrap();
        assert!(load.unchanged && load.expiry == expiry && load.touched.is_none());
        record.insert("a".into(), json!(2));
        assert!(!Load::of(&record).unwrap().unchanged);
        strip(&mut record);
        assert_eq!(record, data(json!({"a": 2})));
        assert!(Load::of(&record).is_none());
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
