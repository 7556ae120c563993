//! Whether a session's data is still what its store gave or got.
//!
//! A store that keeps bytes hands them over with the record, and data is compared with them: exactly, and only when it
//! is saved. Any other store's data is hashed when it is loaded. Nobody sees a hash or learns its key, which is random
//! per process, so nobody can look for two sessions that have the same one.

use std::{
    hash::{BuildHasher as _, Hasher as _, RandomState},
    sync::LazyLock,
};

use foldhash::{SharedSeed, quality::FoldHasher};
use serde_json::{Map, Value};

#[cfg(feature = "_encoded")]
use super::encoded;
use super::release::Data;
use crate::lifetime::KEY;

/// A session's data as the store has it, for as long as the session is in use.
pub(crate) enum Original {
    /// The encoded record.
    #[cfg(feature = "_encoded")]
    Bytes(Vec<u8>),
    /// The hash of its entries, in whatever order.
    Hash(u64),
}

impl Original {
    /// But for what the session keeps of its own lifetime, which no handler sees.
    pub(crate) fn of(data: &Data) -> Self {
        let seen = data.iter().filter(|(key, _)| *key != KEY);
        let hashes = seen.map(|(key, value)| {
            let mut hasher = hasher();
            hasher.write(key.as_bytes());
            hash_value(value, &mut hasher);
            hasher.finish()
        });
        Self::Hash(hashes.fold(0, u64::wrapping_add))
    }

    /// Whether the data is the same.
    pub(crate) fn is(&self, data: &Data) -> bool {
        match self {
            #[cfg(feature = "_encoded")]
            Self::Bytes(record) => encoded::holds(record, data),
            Self::Hash(hash) => matches!(Self::of(data), Self::Hash(now) if now == *hash),
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
        hasher.write(key.as_bytes()); // The hasher adds the length.
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

    fn hash(data: &HashMap<String, Value>) -> u64 {
        match Original::of(data) {
            Original::Hash(hash) => hash,
            #[cfg(feature = "_encoded")]
            Original::Bytes(_) => unreachable!("values are hashed"),
        }
    }

    #[test]
    fn the_hash_covers_every_type_and_every_bit() {
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
        let hashes: HashSet<_> = values
            .iter()
            .map(|value| hash(&data(json!({"key": value}))))
            .collect();
        assert_eq!(hashes.len(), values.len());
        assert_ne!(hash(&data(json!({"a": 1}))), hash(&data(json!({"b": 1}))));
        assert_ne!(
            hash(&data(json!({"a": 1, "b": 2}))),
            hash(&data(json!({"a": 2, "b": 1})))
        );
        assert_ne!(hash(&data(json!({}))), hash(&data(json!({"a": null}))));
    }

    #[test]
    fn the_hash_does_not_depend_on_the_order_of_keys() {
        let mut pairs: Vec<_> = (0..50)
            .map(|index| (format!("key{index}"), json!({"x": index, "y": [index]})))
            .collect();
        let before = hash(&pairs.iter().cloned().collect());
        pairs.reverse();
        assert_eq!(before, hash(&pairs.iter().cloned().collect()));
    }
}
