//! Records in the form that upstream's stores behind a server keep them in: `rmp-serde`'s, an array of id, data and expiry.

use std::{collections::HashMap, fmt};

#[cfg(feature = "redis")]
use rmp_serde::encode;
use rmp_serde::{Deserializer, decode};
use serde::{
    Deserializer as _,
    de::{DeserializeSeed, Error, MapAccess, SeqAccess, Visitor},
};
use serde_json::Value;
use time::OffsetDateTime;

use super::original::{self as fingerprint, Fingerprint};
#[cfg(feature = "redis")]
use super::release::RecordRef;
use super::release::{Data, Record};

/// Reads a record, and tells a `RefreshStore` around its store the fingerprint of its data.
///
/// # Errors
/// If the bytes are no record.
pub fn decode(bytes: &[u8]) -> Result<Record, decode::Error> {
    Deserializer::from_read_ref(bytes).deserialize_tuple(3, Fields { bytes })
}

/// The three of a record.
struct Fields<'de> {
    bytes: &'de [u8],
}

impl<'de> Visitor<'de> for Fields<'de> {
    type Value = Record;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of a session's id, data and expiry")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut fields: A) -> Result<Record, A::Error> {
        let missing = |field| A::Error::invalid_length(field, &"three fields");
        let id = fields.next_element()?.ok_or_else(|| missing(0))?;
        let entries = Entries {
            bytes: self.bytes,
            hash: fingerprint::is_told().then_some(0),
            last: None,
        };
        let (data, entries) = fields
            .next_element_seed(entries)?
            .ok_or_else(|| missing(1))?;
        let expiry_date = fields.next_element()?.ok_or_else(|| missing(2))?;
        if let Some(hash) = entries.end(expiry_date) {
            fingerprint::tell(Fingerprint::Bytes(hash));
        }
        Ok(Record {
            id,
            data,
            expiry_date,
        })
    }
}

/// A record's data. Where the bytes of each entry are is seen from where the text of the next key is.
struct Entries<'de> {
    /// The whole record's.
    bytes: &'de [u8],
    /// Of the entries before the last; `None` if nobody wants it, or some entry's bytes are not where they are expected.
    hash: Option<u64>,
    last: Option<&'de str>,
}

impl Entries<'_> {
    /// Adds the last entry, whose value ends here.
    fn add(&mut self, end: Option<usize>) {
        let (Some(sum), Some(key)) = (self.hash, self.last.take()) else {
            return;
        };
        let begin = self.place(key);
        let entry = end.and_then(|end| self.bytes.get(begin..end));
        self.hash = entry.map(|entry| sum.wrapping_add(Fingerprint::of_bytes(entry, key.len())));
    }

    /// The fingerprint of all entries, if the record ends with this expiry.
    fn end(mut self, expiry: OffsetDateTime) -> Option<u64> {
        self.hash?;
        let length = if has_end(self.bytes) {
            END
        } else {
            shortest_end(expiry)?
        };
        let end = self.bytes.len().checked_sub(length);
        self.add(end);
        self.hash
    }

    /// Where in the record a text of it is.
    fn place(&self, text: &str) -> usize {
        text.as_ptr()
            .addr()
            .wrapping_sub(self.bytes.as_ptr().addr())
    }
}

impl<'de> DeserializeSeed<'de> for Entries<'de> {
    type Value = (Data, Self);

    fn deserialize<D: serde::Deserializer<'de>>(self, data: D) -> Result<Self::Value, D::Error> {
        data.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Entries<'de> {
    type Value = (Data, Self);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map of a session's data")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut entries: A) -> Result<Self::Value, A::Error> {
        // No more than there can be: what a store holds may be damaged.
        let length = entries.size_hint().unwrap_or_default();
        let mut data = HashMap::with_capacity(length.min(self.bytes.len() / 2));
        while let Some(key) = entries.next_key::<&'de str>()? {
            let end = self.place(key).checked_sub(head(key.len()));
            self.add(end);
            self.last = Some(key);
            data.insert(key.to_owned(), entries.next_value::<Value>()?);
        }
        Ok((data, self))
    }
}

/// How many bytes before a text say how long it is, if they are as few as can be.
fn head(length: usize) -> usize {
    match length {
        0..=31 => 1,
        32..=0xff => 2,
        0x100..=0xffff => 3,
        _ => 5,
    }
}

/// A record as upstream encodes it, but for its [`end`].
#[cfg(feature = "redis")]
pub(super) fn with_end(record: RecordRef<'_>) -> Result<Vec<u8>, encode::Error> {
    let mut bytes = rmp_serde::to_vec(&record)?;
    bytes.truncate(bytes.len() - rmp_serde::to_vec(&record.expiry_date)?.len());
    bytes.extend(end(record.expiry_date));
    Ok(bytes)
}

/// How long an [`end`] is.
const END: usize = 1 + 9 * 5;
/// The form's markers for an array of nine, and for an integer of 32 bits.
const ARRAY: u8 = 0x99;
const INTEGER: u8 = 0xd2;

/// An expiry of fixed width: an array of nine integers of 32 bits.
///
/// A reader that knows what is written finds the same as in upstream's records, whose integers are as short as can be.
#[cfg(feature = "redis")]
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
    bytes[0] = ARRAY;
    for (place, number) in bytes[1..].chunks_exact_mut(5).zip(numbers) {
        place[1..].copy_from_slice(&number.to_be_bytes());
    }
    bytes
}

/// How long an expiry is if its integers are as short as can be. Every store's is in UTC and of our era.
fn shortest_end(expiry: OffsetDateTime) -> Option<usize> {
    let integer = |number: u32| match number {
        0..=0x7f => 1,
        0x80..=0xff => 2,
        0x100..=0xffff => 3,
        _ => 5,
    };
    let year = u32::try_from(expiry.year()).ok()?;
    let date = integer(year) + integer(expiry.ordinal().into());
    // Hour, minute and second are short, as are the offset's three.
    let rest = 3 + integer(expiry.nanosecond()) + 3;
    expiry.offset().is_utc().then_some(1 + date + rest)
}

/// Whether a record ends with an [`end`].
pub(super) fn has_end(record: &[u8]) -> bool {
    record.last_chunk::<END>().is_some_and(|end| {
        let mut integers = end[1..].chunks_exact(5);
        end[0] == ARRAY && integers.all(|integer| integer[0] == INTEGER)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::store::SessionId;

    /// A record as upstream has it, in whose form others are told from ours.
    type Upstream<'a> = (SessionId, &'a Data, OffsetDateTime);

    fn encoded(data: &Data, expiry: OffsetDateTime) -> Vec<u8> {
        let record: Upstream<'_> = (SessionId(-7), data, expiry);
        rmp_serde::to_vec(&record).unwrap()
    }

    /// What is read, and the fingerprint that is told.
    fn read(bytes: &[u8]) -> (Result<Record, decode::Error>, Option<Fingerprint>) {
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.build().unwrap();
        runtime.block_on(fingerprint::told(async { decode(bytes) }))
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
        fn a_record_is_read_as_it_was_written_and_its_data_recognised(data in data(), expiry in expiry()) {
            let (record, fingerprint) = read(&encoded(&data, expiry));
            prop_assert_eq!(record.unwrap(), Record { id: SessionId(-7), data: data.clone(), expiry_date: expiry });
            prop_assert!(fingerprint.unwrap().is_of(data.iter()));
        }

        #[cfg(feature = "redis")]
        #[test]
        fn so_is_one_with_an_end_of_fixed_width(data in data(), expiry in expiry()) {
            let record = RecordRef { id: SessionId(-7), data: &data, expiry_date: expiry };
            let bytes = with_end(record).unwrap();
            prop_assert!(has_end(&bytes));
            let (read, fingerprint) = read(&bytes);
            prop_assert_eq!(read.unwrap(), record.to_owned());
            prop_assert!(fingerprint.unwrap().is_of(data.iter()));
            // Upstream's reader, too.
            let (id, theirs, at): (SessionId, Data, OffsetDateTime) = rmp_serde::from_slice(&bytes).unwrap();
            prop_assert_eq!(Record { id, data: theirs, expiry_date: at }, record.to_owned());
        }

        #[test]
        fn a_change_is_a_change(data in data(), other in data(), expiry in expiry()) {
            let (_, fingerprint) = read(&encoded(&data, expiry));
            prop_assert_eq!(fingerprint.unwrap().is_of(other.iter()), data == other);
        }

        #[test]
        fn no_bytes_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..80), data in data(), expiry in expiry(), place in any::<prop::sample::Index>()) {
            let _ = read(&bytes);
            bytes.truncate(3);
            let mut record = encoded(&data, expiry);
            let place = place.index(record.len());
            record.splice(place..place, bytes);
            let _ = read(&record);
            let _ = read(&record[..place]);
        }
    }

    #[test]
    fn what_is_not_as_short_as_can_be_is_read_but_not_recognised() {
        let data = Data::from([("a".to_owned(), json!(1))]);
        let bytes = encoded(&data, OffsetDateTime::UNIX_EPOCH);
        let place = bytes
            .windows(3)
            .position(|bytes| bytes == [0xa1, b'a', 1])
            .unwrap();
        for (longer, places) in [(&[0xa1, b'a', 0xcc, 1][..], 3), (&[0xd9, 1, b'a', 1], 3)] {
            let mut bytes = bytes.clone();
            bytes.splice(place..place + places, longer.iter().copied());
            let (record, fingerprint) = read(&bytes);
            assert_eq!(record.unwrap().data, data);
            // A longer head is seen before the key's own bytes, which are the same.
            let same = fingerprint.is_some_and(|fingerprint| fingerprint.is_of(data.iter()));
            assert_eq!(same, longer[0] == 0xd9);
        }
    }

    #[test]
    fn what_is_no_record_is_an_error() {
        for bytes in [
            &[][..],
            &[0x90],
            &[0x93],
            &[0xc0],
            b"hello",
            // A map of four thousand million entries.
            &[0x93, 0, 0xdf, 0xff, 0xff, 0xff, 0xff],
        ] {
            assert!(read(bytes).0.is_err(), "{bytes:?}");
        }
    }
}
