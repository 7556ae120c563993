//! Defaults that an operator sets.

use std::{
    collections::HashSet,
    fmt,
    hash::Hash,
    sync::{LazyLock, Mutex, PoisonError},
};

use serde::{
    Deserialize, Deserializer,
    de::{Error, SeqAccess, Visitor},
};
use time::Duration;

use crate::policy::Policy;

/// An application's defaults as a value read at run time, so that an interval can be changed without a rebuild.
///
/// Any format will do that says of its values what they are: TOML, JSON, YAML, environment variables. Every field may be left out; a bad value, or a field that does not exist, is an
/// error that names the field and says what is allowed.
///
/// | field | value |
/// |---|---|
/// | `interval` | a string such as `"24h"` or `"1day 2h"`, or a whole number of seconds; at least a millisecond |
/// | `passive`, `skip_staff`, `skip_superuser`, `skip_unauthenticated`, `skip_prefetch` | `true` or `false`, also as a string |
/// | `skip_paths` | a list of prefixes, each begins with `/` |
/// | `key` | a string that is not empty |
///
/// ```
/// use session_refresh::{RefreshConfig, RefreshLayer};
///
/// let config: RefreshConfig = toml::from_str(r#"
///     interval = "12h"
///     skip_superuser = true
/// "#)?;
/// let layer = RefreshLayer::new().config(config);
///
/// let mistake = toml::from_str::<RefreshConfig>(r#"interval = "24""#).unwrap_err();
/// assert!(mistake.to_string().contains("`interval`"), "{mistake}");
/// # let _ = layer; Ok::<(), toml::de::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RefreshConfig {
    #[serde(deserialize_with = "interval")]
    interval: Option<Duration>,
    #[serde(deserialize_with = "passive")]
    passive: Option<bool>,
    #[serde(deserialize_with = "skip_staff")]
    skip_staff: Option<bool>,
    #[serde(deserialize_with = "skip_superuser")]
    skip_superuser: Option<bool>,
    #[serde(deserialize_with = "skip_unauthenticated")]
    skip_unauthenticated: Option<bool>,
    #[serde(deserialize_with = "skip_prefetch")]
    skip_prefetch: Option<bool>,
    #[serde(deserialize_with = "skip_paths")]
    skip_paths: Option<Vec<String>>,
    #[serde(deserialize_with = "key")]
    key: Option<String>,
}

/// What the configuration says, and nothing of what it leaves out.
impl From<RefreshConfig> for Policy {
    fn from(config: RefreshConfig) -> Self {
        Self {
            interval: config.interval,
            passive: config.passive,
            skip_staff: config.skip_staff,
            skip_superuser: config.skip_superuser,
            skip_unauthenticated: config.skip_unauthenticated,
            skip_prefetch: config.skip_prefetch,
            skip_paths: config.skip_paths.map(|paths| {
                static LISTS: Interned<Vec<&'static str>> = LazyLock::new(Mutex::default);
                intern(&LISTS, paths.into_iter().map(text).collect()).as_slice()
            }),
            skip_if: None,
            key: config.key.map(text),
        }
    }
}

/// Values that live as long as the process, since a [`Policy`] is a constant: each once, however often it is read.
type Interned<T> = LazyLock<Mutex<HashSet<&'static T>>>;

fn intern<T: Eq + Hash>(known: &Interned<T>, value: T) -> &'static T {
    let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(value) = known.get(&value) {
        return value;
    }
    let value = Box::leak(Box::new(value));
    known.insert(value);
    value
}

fn text(text: String) -> &'static str {
    static TEXTS: Interned<String> = LazyLock::new(Mutex::default);
    intern::<String>(&TEXTS, text)
}

/// Reads a field's value. Its name and what it may be are in every error: not each format says where it is.
struct Field<T> {
    name: &'static str,
    allowed: &'static str,
    of_text: fn(&str) -> Checked<T>,
    of_bool: Option<fn(bool) -> T>,
    of_seconds: Option<fn(u64) -> Checked<T>>,
    of_list: Option<fn(Vec<String>) -> Checked<T>>,
}

/// A value, or what is wrong with it.
type Checked<T> = Result<T, String>;

impl<T> Field<T> {
    fn checked<E: Error>(&self, value: Checked<T>) -> Result<Option<T>, E> {
        value.map(Some).map_err(|mistake| {
            E::custom(format_args!(
                "`{}`: {mistake}; allowed is {}",
                self.name, self.allowed
            ))
        })
    }
}

impl<'de, T> Visitor<'de> for Field<T> {
    type Value = Option<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} for `{}`", self.allowed, self.name)
    }

    fn visit_none<E: Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_some<D: Deserializer<'de>>(self, value: D) -> Result<Self::Value, D::Error> {
        value.deserialize_any(self)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        self.checked((self.of_text)(text))
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Self::Value, E> {
        match self.of_bool {
            Some(of_bool) => Ok(Some(of_bool(value))),
            None => Err(E::invalid_type(serde::de::Unexpected::Bool(value), &self)),
        }
    }

    fn visit_u64<E: Error>(self, seconds: u64) -> Result<Self::Value, E> {
        match self.of_seconds {
            Some(of_seconds) => self.checked(of_seconds(seconds)),
            None => Err(E::invalid_type(
                serde::de::Unexpected::Unsigned(seconds),
                &self,
            )),
        }
    }

    fn visit_i64<E: Error>(self, seconds: i64) -> Result<Self::Value, E> {
        match u64::try_from(seconds) {
            Ok(seconds) => self.visit_u64(seconds),
            Err(_) => self.checked(Err(format!("{seconds} is negative"))),
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<Self::Value, A::Error> {
        let Some(of_list) = self.of_list else {
            return Err(A::Error::invalid_type(serde::de::Unexpected::Seq, &self));
        };
        let mut list = Vec::new();
        let item = |error| {
            A::Error::custom(format_args!(
                "`{}`: {error}; allowed is {}",
                self.name, self.allowed
            ))
        };
        while let Some(value) = values.next_element::<String>().map_err(item)? {
            list.push(value);
        }
        self.checked(of_list(list))
    }
}

fn interval<'de, D: Deserializer<'de>>(value: D) -> Result<Option<Duration>, D::Error> {
    fn checked(interval: std::time::Duration) -> Result<Duration, String> {
        match Duration::try_from(interval) {
            Ok(interval) if interval.whole_milliseconds() > 0 => Ok(interval),
            Ok(_) => Err("an interval must be at least a millisecond".into()),
            Err(_) => Err("the interval is too long".into()),
        }
    }
    value.deserialize_any(Field {
        name: "interval",
        allowed: "a string such as \"24h\" or \"1day 2h\", or a whole number of seconds",
        of_text: |text| {
            let interval = humantime::parse_duration(text.trim());
            checked(interval.map_err(|mistake| format!("{text:?} is no duration: {mistake}"))?)
        },
        of_bool: None,
        of_seconds: Some(|seconds| checked(std::time::Duration::from_secs(seconds))),
        of_list: None,
    })
}

fn flag<'de, D: Deserializer<'de>>(name: &'static str, value: D) -> Result<Option<bool>, D::Error> {
    value.deserialize_any(Field {
        name,
        allowed: "`true` or `false`",
        of_text: |text| {
            text.trim()
                .parse()
                .map_err(|_| format!("{text:?} is neither"))
        },
        of_bool: Some(|value| value),
        of_seconds: None,
        of_list: None,
    })
}

fn passive<'de, D: Deserializer<'de>>(value: D) -> Result<Option<bool>, D::Error> {
    flag("passive", value)
}

fn skip_staff<'de, D: Deserializer<'de>>(value: D) -> Result<Option<bool>, D::Error> {
    flag("skip_staff", value)
}

fn skip_superuser<'de, D: Deserializer<'de>>(value: D) -> Result<Option<bool>, D::Error> {
    flag("skip_superuser", value)
}

fn skip_unauthenticated<'de, D: Deserializer<'de>>(value: D) -> Result<Option<bool>, D::Error> {
    flag("skip_unauthenticated", value)
}

fn skip_prefetch<'de, D: Deserializer<'de>>(value: D) -> Result<Option<bool>, D::Error> {
    flag("skip_prefetch", value)
}

fn skip_paths<'de, D: Deserializer<'de>>(value: D) -> Result<Option<Vec<String>>, D::Error> {
    value.deserialize_any(Field {
        name: "skip_paths",
        allowed: "a list of prefixes, each of which begins with `/`",
        of_text: |text| Err(format!("{text:?} is no list")),
        of_bool: None,
        of_seconds: None,
        of_list: Some(
            |prefixes| match prefixes.iter().find(|prefix| !prefix.starts_with('/')) {
                Some(prefix) => Err(format!("{prefix:?} does not begin with `/`")),
                None => Ok(prefixes),
            },
        ),
    })
}

fn key<'de, D: Deserializer<'de>>(value: D) -> Result<Option<String>, D::Error> {
    value.deserialize_any(Field {
        name: "key",
        allowed: "a string that is not empty",
        of_text: |text| {
            if text.is_empty() {
                Err("it is empty".into())
            } else {
                Ok(text.into())
            }
        },
        of_bool: None,
        of_seconds: None,
        of_list: None,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::de::{IntoDeserializer, value::MapDeserializer};
    use serde_json::{Value, json};

    use super::*;

    fn read(value: Value) -> Result<RefreshConfig, String> {
        serde_json::from_value(value).map_err(|mistake| mistake.to_string())
    }

    #[test]
    fn every_field_is_read() {
        let config = read(json!({
            "interval": "1day 2h",
            "skip_staff": true,
            "skip_superuser": "false",
            "skip_unauthenticated": false,
            "passive": true,
            "skip_prefetch": "false",
            "skip_paths": ["/static/", "/media/"],
            "key": "refreshed",
        }));
        let policy = Policy::from(config.unwrap());
        assert_eq!(policy.interval, Some(Duration::hours(26)));
        assert_eq!(policy.skip_staff, Some(true));
        assert_eq!(policy.skip_superuser, Some(false));
        assert_eq!(policy.skip_unauthenticated, Some(false));
        assert_eq!(policy.passive, Some(true));
        assert_eq!(policy.skip_prefetch, Some(false));
        assert_eq!(policy.skip_paths, Some(["/static/", "/media/"].as_slice()));
        assert_eq!(policy.key, Some("refreshed"));
        let seconds = Policy::from(read(json!({ "interval": 90 })).unwrap());
        assert_eq!(seconds.interval, Some(Duration::seconds(90)));
    }

    #[test]
    fn what_is_left_out_or_null_is_left_unsaid() {
        for nothing in [json!({}), json!({ "interval": null, "skip_paths": null })] {
            assert_eq!(read(nothing), Ok(RefreshConfig::default()));
        }
    }

    /// A value of a format in which what is there is `some`, as in RON.
    struct InSome(Value);

    impl<'de> Deserializer<'de> for InSome {
        type Error = serde_json::Error;

        fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
            visitor.visit_some(self.0)
        }

        serde::forward_to_deserialize_any! {
            bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit
            unit_struct newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
        }
    }

    impl IntoDeserializer<'_, serde_json::Error> for InSome {
        type Deserializer = Self;

        fn into_deserializer(self) -> Self {
            self
        }
    }

    #[test]
    fn what_a_format_calls_some_is_read() {
        let fields = [("interval", InSome(json!("2h")))].into_iter();
        let config = RefreshConfig::deserialize(MapDeserializer::new(fields));
        let policy = Policy::from(config.unwrap());
        assert_eq!(policy.interval, Some(Duration::hours(2)));
    }

    #[test]
    fn a_bad_value_is_an_error_that_names_its_field_and_what_is_allowed() {
        let interval = "a whole number of seconds";
        let flag = "`true` or `false`";
        for (field, value, allowed) in [
            ("interval", json!("24"), interval),
            ("interval", json!("24 fortnights"), interval),
            ("interval", json!(""), interval),
            ("interval", json!("-1h"), interval),
            ("interval", json!("0s"), interval),
            ("interval", json!("1us"), interval),
            ("interval", json!(0), interval),
            ("interval", json!(-5), interval),
            ("interval", json!(1.5), interval),
            ("interval", json!(u64::MAX), interval),
            ("interval", json!(true), interval),
            ("interval", json!(["24h"]), interval),
            ("interval", json!({ "hours": 24 }), interval),
            ("skip_staff", json!("yes"), flag),
            ("skip_superuser", json!(1), flag),
            ("skip_unauthenticated", json!([true]), flag),
            ("passive", json!("no"), flag),
            ("skip_prefetch", json!(0), flag),
            ("skip_paths", json!("/static/"), "a list of prefixes"),
            ("skip_paths", json!(["/a", "static/"]), "begins with `/`"),
            ("skip_paths", json!(["/a", 1]), "a list of prefixes"),
            ("key", json!(""), "not empty"),
            ("key", json!(7), "a string"),
        ] {
            let mistake = read(json!({ field: value })).unwrap_err();
            assert!(mistake.contains(&format!("`{field}`")), "{mistake}");
            assert!(mistake.contains(allowed), "{mistake}");
        }
    }

    #[test]
    fn an_unknown_field_is_an_error_that_names_it_and_those_that_there_are() {
        let mistake = read(json!({ "intervall": "24h" })).unwrap_err();
        for name in ["`intervall`", "`interval`", "`skip_staff`", "`key`"] {
            assert!(mistake.contains(name), "{mistake}");
        }
    }

    #[test]
    fn a_mistake_in_toml_names_its_field_too() {
        let mistake = toml::from_str::<RefreshConfig>("skip_staff = 'maybe'").unwrap_err();
        assert!(mistake.to_string().contains("`skip_staff`"), "{mistake}");
    }

    #[test]
    fn reading_the_same_again_keeps_nothing_more() {
        let read = || {
            let config = json!({ "key": "again", "skip_paths": ["/again"] });
            Policy::from(read(config).unwrap())
        };
        let (once, again) = (read(), read());
        assert!(std::ptr::eq(once.key.unwrap(), again.key.unwrap()));
        assert!(std::ptr::eq(
            once.skip_paths.unwrap(),
            again.skip_paths.unwrap()
        ));
    }

    fn values() -> impl Strategy<Value = Value> {
        prop_oneof![
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            any::<bool>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
            "[0-9]{1,20} ?[a-zµ]{0,6}".prop_map(Value::from),
            proptest::collection::vec(any::<String>(), 0..3).prop_map(Value::from),
            Just(Value::Null),
        ]
    }

    proptest! {
        #[test]
        fn no_value_is_a_panic_and_what_is_read_makes_a_policy(
            interval in values(), skip in values(), paths in values(), key in values(),
        ) {
            let config = json!({ "interval": interval, "skip_staff": skip, "skip_paths": paths, "key": key });
            if let Some(interval) = read(config).ok().and_then(|config| config.interval) {
                let _ = Policy::every(interval);
            }
        }
    }
}
