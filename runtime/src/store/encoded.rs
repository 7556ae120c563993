//! Records in the form that upstream's stores behind a server keep them in: what `rmp-serde` makes of upstream's `Record`.

use std::fmt;

use rmp_serde::{Deserializer, decode};
use serde::{
    Deserialize as _, Deserializer as _,
    de::{
        DeserializeSeed, Error, IgnoredAny, MapAccess, SeqAccess, Visitor,
        value::MapAccessDeserializer,
    },
};
use serde_json::Value;
use time::OffsetDateTime;

#[cfg(feature = "_stores")]
use super::release::RecordRef;
use super::release::{Data, Record, StoreError};
#[cfg(feature = "_stores")]
use super::touch::{FirstTouch, Touched};
use crate::lifetime::KEY;

/// Reads a record: an array of its fields, or a map of them by name, as upstream's `Record` is read. Its expiry is the one
/// that stands beside it, if there is one.
pub(super) fn read(bytes: &[u8], beside: Option<OffsetDateTime>) -> Result<Record, StoreError> {
    let mut record = decode(bytes).map_err(StoreError::decode)?;
    record.expiry_date = beside.unwrap_or(record.expiry_date);
    Ok(record)
}

/// Writes a record as upstream does.
#[cfg(feature = "_sql")]
pub(super) fn write(record: RecordRef<'_>) -> Result<Vec<u8>, StoreError> {
    rmp_serde::to_vec(&record).map_err(|error| StoreError::Encode(error.to_string()))
}

fn decode(bytes: &[u8]) -> Result<Record, decode::Error> {
    rmp_serde::from_slice(bytes)
}

/// The record as a [`FirstTouch`] leaves it; `Err` if somebody was faster.
#[cfg(feature = "_stores")]
pub(super) fn touched_first(
    bytes: &[u8],
    beside: Option<OffsetDateTime>,
    touch: &FirstTouch,
) -> Result<Result<Record, Touched>, StoreError> {
    let mut record = read(bytes, beside)?;
    Ok(touch.apply(&mut record).map(|()| record))
}

/// Whether an encoded record holds this data, however it is encoded and in whatever order, but for what the session keeps of
/// its own lifetime. No value is built.
pub(super) fn holds(record: &[u8], data: &Data) -> bool {
    holds_as_encoded(record, data).is_some() || holds_as_read(record, data)
}

/// Compares bytes, which is all that is to do for what this crate or upstream has written. `None` where a record's entries
/// differ, or are of another form.
fn holds_as_encoded(record: &[u8], data: &Data) -> Option<()> {
    // An array of three: the id, of 16 bytes, then the data.
    let rest = record.strip_prefix(&[0x93, 0xc4, 16])?.get(16..)?;
    let (entries, mut rest) = count(rest, MAP)?;
    let mut keys = Vec::with_capacity(data.len());
    for _ in 0..entries {
        let key;
        (key, rest) = text(rest)?;
        if key == KEY.as_bytes() {
            (_, rest) = text(rest)?;
            continue;
        }
        let key = str::from_utf8(key).ok()?;
        rest = after(rest, data.get(key)?)?;
        keys.push(key);
    }
    keys.sort_unstable();
    let is_each_once = keys.windows(2).all(|pair| pair[0] != pair[1]);
    (is_each_once && keys.len() == data.len()).then_some(())
}

/// What comes after a value, if that is the expected one. An object's entries are in the order in which it is written.
fn after<'a>(bytes: &'a [u8], expected: &Value) -> Option<&'a [u8]> {
    match expected {
        Value::Null => bytes.strip_prefix(&[0xc0]),
        Value::Bool(is) => bytes.strip_prefix(&[0xc2 + u8::from(*is)]),
        Value::Number(expected) => {
            let (head, rest) = bytes.split_first()?;
            let (found, rest) = match head {
                0x00..=0x7f => (i128::from(*head), rest),
                0xe0..=0xff => (i128::from(head.cast_signed()), rest),
                0xcb => {
                    let (found, rest) = rest.split_first_chunk()?;
                    let is_same = expected.as_f64()?.to_bits() == u64::from_be_bytes(*found);
                    return (expected.is_f64() && is_same).then_some(rest);
                }
                0xcc..=0xcf => {
                    let (found, rest) = big_endian(rest, 1 << (head - 0xcc))?;
                    (found.into(), rest)
                }
                0xd0..=0xd3 => {
                    let size = 1 << (head - 0xd0);
                    let (found, rest) = big_endian(rest, size)?;
                    let unused = 64 - 8 * size;
                    (((found << unused).cast_signed() >> unused).into(), rest)
                }
                _ => return None,
            };
            let unsigned = expected.as_u64().map(i128::from);
            let expected = unsigned.or_else(|| expected.as_i64().map(i128::from))?;
            (found == expected).then_some(rest)
        }
        Value::String(expected) => {
            let (found, rest) = text(bytes)?;
            (found == expected.as_bytes()).then_some(rest)
        }
        Value::Array(values) => {
            let (found, rest) = count(bytes, ARRAY)?;
            (found == values.len()).then_some(())?;
            values.iter().try_fold(rest, after)
        }
        Value::Object(entries) => {
            let (found, rest) = count(bytes, MAP)?;
            (found == entries.len()).then_some(())?;
            entries.iter().try_fold(rest, |rest, (expected, value)| {
                let (key, rest) = text(rest)?;
                (key == expected.as_bytes()).then_some(())?;
                after(rest, value)
            })
        }
    }
}

/// How many entries an array or a map has, and what comes after its head. The heads are `short`, which has a number below 16 in
/// it, and `long` and the next one, before a number of two or four bytes.
#[inline]
fn count(bytes: &[u8], (short, long): (u8, u8)) -> Option<(usize, &[u8])> {
    let (&head, rest) = bytes.split_first()?;
    if head & 0xf0 == short {
        return Some(((head & 0x0f).into(), rest));
    }
    let size = match head.wrapping_sub(long) {
        0 => 2,
        1 => 4,
        _ => return None,
    };
    let (count, rest) = big_endian(rest, size)?;
    Some((count.try_into().ok()?, rest))
}

const ARRAY: (u8, u8) = (0x90, 0xdc);
const MAP: (u8, u8) = (0x80, 0xde);

/// A text's bytes, and what comes after it.
#[inline]
fn text(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&head, rest) = bytes.split_first()?;
    if head & 0xe0 == 0xa0 {
        return rest.split_at_checked((head & 0x1f).into());
    }
    let size = match head {
        0xd9 => 1,
        0xda => 2,
        0xdb => 4,
        _ => return None,
    };
    let (length, rest) = big_endian(rest, size)?;
    rest.split_at_checked(length.try_into().ok()?)
}

/// A number of at most eight bytes, and what comes after it.
fn big_endian(bytes: &[u8], size: usize) -> Option<(u64, &[u8])> {
    let (number, rest) = bytes.split_at_checked(size)?;
    let number = number
        .iter()
        .fold(0, |number, byte| number << 8 | u64::from(*byte));
    Some((number, rest))
}

/// Goes through the record as `serde_json` would read it.
fn holds_as_read(record: &[u8], data: &Data) -> bool {
    let fields = &["id", "data", "expiry_date"];
    Deserializer::from_read_ref(record)
        .deserialize_struct("Record", fields, Is::RecordOf(data))
        .is_ok()
}

/// What is expected. Reading something else is an error.
#[derive(Clone, Copy)]
enum Is<'a> {
    /// A record that holds this data.
    RecordOf(&'a Data),
    Data(&'a Data),
    Value(&'a Value),
}

fn differs<E: Error>() -> E {
    E::custom("the data differs")
}

fn same<E: Error>(is_same: bool) -> Result<(), E> {
    if is_same { Ok(()) } else { Err(differs()) }
}

/// Whether a map has as many entries as expected, and each is the one that `get` has. An object's are most often in the
/// order that `expected` has.
fn entries<'a, 'de, A: MapAccess<'de>>(
    mut map: A,
    passed_over: Option<&str>,
    expected: &(impl ExactSizeIterator<Item = (&'a String, &'a Value)> + Clone),
    get: impl Fn(&str) -> Option<&'a Value>,
) -> Result<(), A::Error> {
    let address = |value: &Value| std::ptr::from_ref(value).addr();
    let (mut in_order, mut count) = (expected.clone(), 0);
    // Which values were found, from where the order differs: none twice.
    let mut found: Option<Vec<usize>> = None;
    while let Some(key) = map.next_key::<&str>()? {
        if passed_over == Some(key) {
            map.next_value::<IgnoredAny>()?;
            continue;
        }
        let value = match in_order.next() {
            Some((next, value)) if found.is_none() && next == key => value,
            _ => {
                let before = expected.clone().take(count);
                let found =
                    found.get_or_insert_with(|| before.map(|(_, value)| address(value)).collect());
                let value = get(key).ok_or_else(differs)?;
                found.push(address(value));
                value
            }
        };
        map.next_value_seed(Is::Value(value))?;
        count += 1;
    }
    let is_once = found.is_none_or(|mut found| {
        found.sort_unstable();
        found.windows(2).all(|pair| pair[0] != pair[1])
    });
    same(count == expected.len() && is_once)
}

impl<'de> DeserializeSeed<'de> for Is<'_> {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(self, found: D) -> Result<(), D::Error> {
        found.deserialize_any(self)
    }
}

/// As `serde_json` reads a value: a number that is none is null.
impl<'de> Visitor<'de> for Is<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a record as it was")
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        same(matches!(self, Self::Value(Value::Null)))
    }

    fn visit_bool<E: Error>(self, found: bool) -> Result<(), E> {
        same(matches!(self, Self::Value(Value::Bool(value)) if *value == found))
    }

    fn visit_u64<E: Error>(self, found: u64) -> Result<(), E> {
        same(matches!(self, Self::Value(value) if value.as_u64() == Some(found)))
    }

    fn visit_i64<E: Error>(self, found: i64) -> Result<(), E> {
        same(matches!(self, Self::Value(value) if value.as_i64() == Some(found)))
    }

    fn visit_f64<E: Error>(self, found: f64) -> Result<(), E> {
        let found = Value::from(found);
        same(matches!(self, Self::Value(value) if *value == found))
    }

    fn visit_str<E: Error>(self, found: &str) -> Result<(), E> {
        same(matches!(self, Self::Value(Value::String(text)) if text == found))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut found: A) -> Result<(), A::Error> {
        match self {
            Self::RecordOf(data) => {
                found.next_element::<IgnoredAny>()?;
                let data = found.next_element_seed(Self::Data(data))?;
                data.ok_or_else(differs)?;
                found.next_element::<IgnoredAny>()?;
                Ok(())
            }
            Self::Value(Value::Array(values)) => {
                for value in values {
                    let element = found.next_element_seed(Self::Value(value))?;
                    element.ok_or_else(differs)?;
                }
                same(found.next_element::<IgnoredAny>()?.is_none())
            }
            Self::Data(_) | Self::Value(_) => Err(differs()),
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut found: A) -> Result<(), A::Error> {
        match self {
            Self::RecordOf(data) => {
                let mut is_seen = false;
                while let Some(name) = found.next_key::<&str>()? {
                    if name == "data" {
                        found.next_value_seed(Self::Data(data))?;
                        is_seen = true;
                    } else {
                        found.next_value::<IgnoredAny>()?;
                    }
                }
                same(is_seen)
            }
            Self::Data(data) => entries(found, Some(KEY), &data.iter(), |key| data.get(key)),
            Self::Value(Value::Object(object)) => {
                entries(found, None, &object.iter(), |key| object.get(key))
            }
            // A number of any precision is a map of its own kind.
            Self::Value(value) => {
                same(*value == Value::deserialize(MapAccessDeserializer::new(found))?)
            }
        }
    }
}

/// A record as upstream encodes it, but for its [`end`].
#[cfg(feature = "_redis")]
pub(super) fn with_end(record: RecordRef<'_>) -> Result<Vec<u8>, rmp_serde::encode::Error> {
    let mut bytes = rmp_serde::to_vec(&record)?;
    bytes.truncate(bytes.len() - rmp_serde::to_vec(&record.expiry_date)?.len());
    bytes.extend(end(record.expiry_date));
    Ok(bytes)
}

/// How long an [`end`] is.
#[cfg(feature = "_redis")]
const END: usize = 1 + 9 * 5;
/// The form's markers for an array of nine, and for an integer of 32 bits.
#[cfg(feature = "_redis")]
const NINE: u8 = 0x99;
#[cfg(feature = "_redis")]
const INTEGER: u8 = 0xd2;

/// An expiry of fixed width: an array of nine integers of 32 bits.
///
/// A reader that knows what is written finds the same as in upstream's records, whose integers are as short as can be.
#[cfg(feature = "_redis")]
pub(super) fn end(expiry: OffsetDateTime) -> [u8; END] {
    let (hours, minutes, seconds) = expiry.offset().as_hms();
    // As `time` serializes it. A second has fewer nanoseconds than fit, so nothing is cut.
    let numbers: [i32; 9] = [
        expiry.year(),
        expiry.ordinal().into(),
        expiry.hour().into(),
        expiry.minute().into(),
        expiry.second().into(),
        expiry.nanosecond().cast_signed(),
        hours.into(),
        minutes.into(),
        seconds.into(),
    ];
    let mut bytes = [INTEGER; END];
    bytes[0] = NINE;
    for (place, number) in bytes[1..].chunks_exact_mut(5).zip(numbers) {
        place[1..].copy_from_slice(&number.to_be_bytes());
    }
    bytes
}

/// Whether a record ends with an [`end`].
#[cfg(feature = "_redis")]
pub(super) fn has_end(record: &[u8]) -> bool {
    record.last_chunk::<END>().is_some_and(|end| {
        let mut integers = end[1..].chunks_exact(5);
        end[0] == NINE && integers.all(|integer| integer[0] == INTEGER)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::store::release::SessionId;

    /// A record as upstream has it, in whose form others are told from ours.
    type Upstream<'a> = (SessionId, &'a Data, OffsetDateTime);

    fn encoded(data: &Data, expiry: OffsetDateTime) -> Vec<u8> {
        let record: Upstream<'_> = (SessionId(-7), data, expiry);
        rmp_serde::to_vec(&record).unwrap()
    }

    fn json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            (-200..200_i64).prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            ".{0,40}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 32, 20, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..20).prop_map(Value::from),
                prop::collection::btree_map(".{0,5}", inner, 0..20)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    fn data() -> impl Strategy<Value = Data> {
        // Keys of each length whose head has another size.
        let key = prop_oneof![".{0,9}", "[a-z]{28,40}", "[a-z]{250,260}"];
        prop::collection::hash_map(key, json(), 0..6)
    }

    fn expiry() -> impl Strategy<Value = OffsetDateTime> {
        // From the year 0, and often enough near now.
        let seconds = prop_oneof![
            -62_167_219_200..250_000_000_000_i64,
            1_700_000_000..1_900_000_000_i64
        ];
        let nanoseconds = prop_oneof![Just(0), 0..300_u32, 0..1_000_000_000_u32];
        (seconds, nanoseconds).prop_map(|(seconds, nanoseconds)| {
            let time = OffsetDateTime::from_unix_timestamp(seconds).unwrap();
            time.replace_nanosecond(nanoseconds).unwrap()
        })
    }

    proptest! {
        #[test]
        fn a_record_is_read_as_it_was_written_and_holds_its_data(data in data(), expiry in expiry()) {
            let bytes = encoded(&data, expiry);
            prop_assert!(holds_as_encoded(&bytes, &data).is_some());
            prop_assert!(holds_as_read(&bytes, &data));
            prop_assert_eq!(decode(&bytes).unwrap(), Record { id: SessionId(-7), data, expiry_date: expiry });
        }

        #[test]
        fn so_is_one_that_is_a_map_of_its_fields(data in data(), expiry in expiry()) {
            #[derive(serde::Serialize)]
            struct Upstream<'a> { id: SessionId, data: &'a Data, expiry_date: OffsetDateTime }
            let record = Upstream { id: SessionId(-7), data: &data, expiry_date: expiry };
            let bytes = rmp_serde::to_vec_named(&record).unwrap();
            prop_assert!(holds(&bytes, &data));
            prop_assert_eq!(decode(&bytes).unwrap(), Record { id: SessionId(-7), data, expiry_date: expiry });
        }

        #[cfg(feature = "_redis")]
        #[test]
        fn so_is_one_with_an_end_of_fixed_width(data in data(), expiry in expiry()) {
            let record = RecordRef { id: SessionId(-7), data: &data, expiry_date: expiry };
            let bytes = with_end(record).unwrap();
            prop_assert!(has_end(&bytes));
            let end = bytes.len() - END;
            for marker in std::iter::once(end).chain((end + 1..bytes.len()).step_by(5)) {
                let mut other = bytes.clone();
                other[marker] = 0;
                prop_assert!(!has_end(&other), "{marker}");
            }
            prop_assert!(holds(&bytes, &data));
            prop_assert_eq!(decode(&bytes).unwrap(), record.to_owned());
            // Upstream's reader, too.
            let (id, theirs, at): (SessionId, Data, OffsetDateTime) = rmp_serde::from_slice(&bytes).unwrap();
            prop_assert_eq!(Record { id, data: theirs, expiry_date: at }, record.to_owned());
        }

        #[test]
        fn what_differs_anywhere_is_not_held(data in data(), other in data(), expiry in expiry()) {
            let bytes = encoded(&data, expiry);
            prop_assert_eq!(holds_as_encoded(&bytes, &other).is_some(), data == other);
            prop_assert_eq!(holds_as_read(&bytes, &other), data == other);
            for key in data.keys() {
                let mut less = data.clone();
                less.remove(key);
                prop_assert!(!holds(&encoded(&data, expiry), &less));
                prop_assert!(!holds(&encoded(&less, expiry), &data));
                let mut changed = data.clone();
                changed.insert(key.clone(), json!([data[key]]));
                prop_assert!(!holds(&encoded(&data, expiry), &changed));
            }
        }

        #[test]
        fn no_bytes_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..80), data in data(), expiry in expiry(), place in any::<prop::sample::Index>()) {
            let read = |bytes: &[u8]| {
                holds(bytes, &data);
                let _ = decode(bytes);
            };
            read(&bytes);
            bytes.truncate(3);
            let mut record = encoded(&data, expiry);
            let place = place.index(record.len());
            record.splice(place..place, bytes);
            read(&record);
            read(&record[..place]);
        }
    }

    #[test]
    fn numbers_of_other_types_are_other_values() {
        for (one, other) in [
            (json!(1), json!(1.0)),
            (json!(1.0), json!(1.0_f64.to_bits())),
            (json!(-1), json!(u64::MAX)),
            (json!(null), json!(0)),
            (json!([1]), json!([1, 2])),
            (json!([1, 2]), json!([1])),
            (json!({}), json!([])),
            (json!("1"), json!(1)),
        ] {
            let of = |value: &Value| Data::from([("a".to_owned(), value.clone())]);
            let bytes = encoded(&of(&one), OffsetDateTime::UNIX_EPOCH);
            assert!(holds(&bytes, &of(&one)), "{one}");
            assert!(!holds(&bytes, &of(&other)), "{one} {other}");
        }
    }

    #[test]
    fn what_is_not_as_short_as_can_be_is_the_same_data() {
        let data = Data::from([("a".to_owned(), json!(1))]);
        let bytes = encoded(&data, OffsetDateTime::UNIX_EPOCH);
        let place = bytes
            .windows(3)
            .position(|bytes| bytes == [0xa1, b'a', 1])
            .unwrap();
        for longer in [&[0xa1, b'a', 0xcc, 1][..], &[0xd9, 1, b'a', 1]] {
            let mut bytes = bytes.clone();
            bytes.splice(place..place + 3, longer.iter().copied());
            assert_eq!(decode(&bytes).unwrap().data, data);
            assert!(holds(&bytes, &data));
        }
    }

    /// As `serde_json` reads it, the last of two entries with one key counts.
    #[test]
    fn an_entry_that_is_there_twice_is_not_another_one() {
        let entry = |key: u8| [0xa1, key, 1];
        for (entries, places) in [
            ([entry(b'a'), entry(b'a')], [b'a', b'b']),
            ([entry(b'b'), entry(b'b')], [b'a', b'b']),
        ] {
            let mut bytes = encoded(&Data::new(), OffsetDateTime::UNIX_EPOCH);
            let map = bytes.iter().position(|byte| *byte == 0x80).unwrap();
            bytes.splice(map..=map, [&[0x82][..], entries.as_flattened()].concat());
            assert_eq!(decode(&bytes).unwrap().data.len(), 1);
            let data = places.map(|key| (char::from(key).to_string(), json!(1)));
            assert!(!holds(&bytes, &Data::from(data)));
        }
    }

    #[test]
    fn what_is_no_record_is_an_error_and_holds_nothing() {
        for bytes in [
            &[][..],
            &[0x90],
            &[0x93],
            &[0xc0],
            b"hello",
            // A map of four thousand million entries.
            &[0x93, 0, 0xdf, 0xff, 0xff, 0xff, 0xff],
        ] {
            assert!(decode(bytes).is_err(), "{bytes:?}");
            assert!(!holds(bytes, &Data::new()), "{bytes:?}");
        }
    }
}
