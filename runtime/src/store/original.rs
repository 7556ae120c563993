//! Whether a record's data is what was loaded.
//!
//! Nobody sees a fingerprint or learns its key, which is random per process, so nobody can look for two sessions that have
//! the same one. None depends on the order of a record's entries, which are in a hash map: it is the sum of their hashes.

use std::{
    cell::Cell,
    hash::{BuildHasher as _, Hasher as _, RandomState},
    sync::LazyLock,
};

use foldhash::{SharedSeed, quality::FoldHasher};
use serde_json::{Map, Value};

/// What is remembered of a record's data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fingerprint {
    /// Of its values, each walked through.
    Values(u64),
    /// Of the bytes that a store of ours keeps it in, which are at hand when it is loaded. It takes a small part of the time,
    /// but only says that data is the same if its bytes are as short as `rmp-serde` makes them; upstream's are, and ours.
    #[cfg(feature = "_encoded")]
    Bytes(u64),
}

impl Fingerprint {
    pub(crate) fn of_values<'a>(entries: impl Iterator<Item = (&'a String, &'a Value)>) -> Self {
        let hashes = entries.map(|(key, value)| {
            let mut hasher = hasher();
            hasher.write(key.as_bytes());
            hash_value(value, &mut hasher);
            hasher.finish()
        });
        Self::Values(hashes.fold(0, u64::wrapping_add))
    }

    /// The hash of one entry: its key with the encoded value right behind it, and how long the key is.
    #[cfg(feature = "_encoded")]
    pub(crate) fn of_bytes(entry: &[u8], key: usize) -> u64 {
        let mut hasher = hasher();
        hasher.write_usize(key);
        hasher.write(entry);
        hasher.finish()
    }

    /// Whether these entries have it.
    pub(crate) fn is_of<'a>(self, entries: impl Iterator<Item = (&'a String, &'a Value)>) -> bool {
        match self {
            Self::Values(_) => Self::of_values(entries) == self,
            #[cfg(feature = "_encoded")]
            Self::Bytes(expected) => {
                let mut bytes = Vec::with_capacity(1024);
                let mut sum = 0_u64;
                for (key, value) in entries {
                    bytes.clear();
                    bytes.extend_from_slice(key.as_bytes());
                    if rmp_serde::encode::write(&mut bytes, value).is_err() {
                        return false;
                    }
                    sum = sum.wrapping_add(Self::of_bytes(&bytes, key.len()));
                }
                sum == expected
            }
        }
    }

    /// As two values of JSON.
    pub(crate) fn to_json(self) -> [Value; 2] {
        match self {
            Self::Values(hash) => [false.into(), hash.into()],
            #[cfg(feature = "_encoded")]
            Self::Bytes(hash) => [true.into(), hash.into()],
        }
    }

    pub(crate) fn from_json(of_bytes: &Value, hash: &Value) -> Option<Self> {
        match (of_bytes.as_bool()?, hash.as_u64()?) {
            (false, hash) => Some(Self::Values(hash)),
            #[cfg(feature = "_encoded")]
            (true, hash) => Some(Self::Bytes(hash)),
            #[cfg(not(feature = "_encoded"))]
            (true, _) => None,
        }
    }
}

fn hasher() -> FoldHasher<'static> {
    static SEEDS: LazyLock<(u64, SharedSeed)> = LazyLock::new(|| {
        // The standard library's hasher is keyed from the system's generator.
        let random = RandomState::new();
        (random.hash_one(0), SharedSeed::from_u64(random.hash_one(1)))
    });
    let (seed, shared) = &*SEEDS;
    FoldHasher::with_seed(*seed, shared)
}

tokio::task_local! {
    static LOADED: Cell<Option<Fingerprint>>;
}

/// What a load answers, and the fingerprint that its store tells.
pub(crate) async fn told<F: Future>(load: F) -> (F::Output, Option<Fingerprint>) {
    let load = async {
        let loaded = load.await;
        (loaded, LOADED.with(Cell::take))
    };
    LOADED.scope(Cell::new(None), load).await
}

/// Whether somebody wants to know.
#[cfg(feature = "_encoded")]
pub(crate) fn is_told() -> bool {
    LOADED.try_with(|_| ()).is_ok()
}

/// What a store of ours says on a load.
#[cfg(feature = "_encoded")]
pub(crate) fn tell(fingerprint: Fingerprint) {
    let _nobody = LOADED.try_with(|loaded| loaded.set(Some(fingerprint)));
}

/// What comes next in what is hashed, so that different values make different sequences.
#[derive(Clone, Copy)]
enum Tag {
    Null = 1,
    Bool,
    Unsigned,
    Negative,
    Decimal,
    Text,
    Array,
    Object,
}

/// A tag with a number: the value, or how much comes next.
#[inline]
fn hash_tag(tag: Tag, number: u64, hasher: &mut FoldHasher<'_>) {
    hasher.write_u128(u128::from(number) | (tag as u128) << 64);
}

#[inline]
fn hash_text(tag: Tag, text: &str, hasher: &mut FoldHasher<'_>) {
    hash_tag(tag, text.len() as u64, hasher);
    hasher.write(text.as_bytes());
}

#[inline(always)]
#[allow(
    clippy::inline_always,
    reason = "most values are small: their calls would cost more than they do"
)]
fn hash_value(value: &Value, hasher: &mut FoldHasher<'_>) {
    match value {
        Value::Null => hash_tag(Tag::Null, 0, hasher),
        Value::Bool(bool) => hash_tag(Tag::Bool, u64::from(*bool), hasher),
        Value::Number(number) => {
            if let Some(number) = number.as_u64() {
                hash_tag(Tag::Unsigned, number, hasher);
            } else if let Some(number) = number.as_i64() {
                hash_tag(Tag::Negative, number.cast_unsigned(), hasher);
            } else {
                // As text: exact, also where serde_json keeps numbers of any precision.
                hash_text(Tag::Decimal, &number.to_string(), hasher);
            }
        }
        Value::String(text) => hash_text(Tag::Text, text, hasher),
        Value::Array(values) => hash_array(values, hasher),
        Value::Object(object) => hash_object(object, hasher),
    }
}

#[inline(never)]
fn hash_array(values: &[Value], hasher: &mut FoldHasher<'_>) {
    hash_tag(Tag::Array, values.len() as u64, hasher);
    for value in values {
        hash_value(value, hasher);
    }
}

/// In the order that the object has: nothing changes it but a new value.
#[inline(never)]
fn hash_object(object: &Map<String, Value>, hasher: &mut FoldHasher<'_>) {
    hash_tag(Tag::Object, object.len() as u64, hasher);
    for (key, value) in object {
        hasher.write(key.as_bytes()); // The hasher tells lengths apart.
        hash_value(value, hasher);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};

    use serde_json::json;

    use super::*;

    fn data(value: Value) -> HashMap<String, Value> {
        serde_json::from_value(value).unwrap()
    }

    fn fingerprint(data: &HashMap<String, Value>) -> u64 {
        match Fingerprint::of_values(data.iter()) {
            Fingerprint::Values(hash) => hash,
            #[cfg(feature = "_encoded")]
            Fingerprint::Bytes(_) => unreachable!("these are of values"),
        }
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
        let before = fingerprint(&pairs.iter().cloned().collect());
        pairs.reverse();
        assert_eq!(before, fingerprint(&pairs.iter().cloned().collect()));
    }
}
