//! Due or not: arithmetic on values, without I/O and without a clock of its own.

use std::{
    fmt,
    time::{SystemTime, UNIX_EPOCH},
};

use serde_json::Value;
use time::{Duration, OffsetDateTime, PrimitiveDateTime};

/// How far ahead of this machine's clock another's stamp may be before it counts as wrong.
pub(crate) const CLOCK_SKEW: Duration = Duration::minutes(1);

/// Why a stored stamp counts as never refreshed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BadStamp {
    NotAnInteger,
    OutOfRange,
    InTheFuture,
}

impl fmt::Display for BadStamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotAnInteger => "not an integer",
            Self::OutOfRange => "out of range",
            Self::InTheFuture => "more than a minute in the future",
        })
    }
}

/// Unix time in whole milliseconds, within the years that an [`OffsetDateTime`] can have.
///
/// That is the finest that every store keeps, what a session is stamped with, and cheap to calculate with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Millis(i64);

impl Millis {
    const MIN: i64 = PrimitiveDateTime::MIN.assume_utc().unix_timestamp() * 1000;
    const MAX: i64 = PrimitiveDateTime::MAX.assume_utc().unix_timestamp() * 1000 + 999;

    /// The end of the year 9999, which no calendar's text passes.
    pub(crate) const LATEST: Self = Self(253_402_300_799_999);

    /// By the system's clock; before 1970, 1970.
    pub(crate) fn now() -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        Self::clamp(now.map_or(0, |now| i64::try_from(now.as_millis()).unwrap_or(i64::MAX)))
    }

    pub(crate) fn new(milliseconds: i64) -> Option<Self> {
        (Self::MIN..=Self::MAX)
            .contains(&milliseconds)
            .then_some(Self(milliseconds))
    }

    pub(crate) fn saturating_add(self, duration: Duration) -> Self {
        Self::clamp(self.0.saturating_add(whole_millis(duration)))
    }

    pub(crate) fn saturating_sub(self, duration: Duration) -> Self {
        Self::clamp(self.0.saturating_sub(whole_millis(duration)))
    }

    /// The time from `earlier` to this; none if that was later.
    pub(crate) fn since(self, earlier: Self) -> Duration {
        Duration::milliseconds(self.0.saturating_sub(earlier.0).max(0))
    }

    /// The nearest time that there is.
    pub(crate) const fn clamp(milliseconds: i64) -> Self {
        if milliseconds < Self::MIN {
            Self(Self::MIN)
        } else if milliseconds > Self::MAX {
            Self(Self::MAX)
        } else {
            Self(milliseconds)
        }
    }
}

/// A duration without its fraction of a millisecond.
pub(crate) fn whole_millis(duration: Duration) -> i64 {
    let seconds = duration.whole_seconds().saturating_mul(1000);
    seconds.saturating_add(duration.subsec_milliseconds().into())
}

/// Cuts what is finer.
impl From<OffsetDateTime> for Millis {
    fn from(time: OffsetDateTime) -> Self {
        Self::clamp(time.unix_timestamp() * 1000 + i64::from(time.millisecond()))
    }
}

impl From<Millis> for OffsetDateTime {
    fn from(Millis(milliseconds): Millis) -> Self {
        let nanosecond = milliseconds.rem_euclid(1000).cast_unsigned() * 1_000_000;
        Self::from_unix_timestamp(milliseconds.div_euclid(1000))
            .and_then(|time| time.replace_nanosecond(u32::try_from(nanosecond).unwrap_or_default()))
            .expect("milliseconds are kept within the range")
    }
}

impl From<Millis> for i64 {
    fn from(Millis(milliseconds): Millis) -> Self {
        milliseconds
    }
}

/// The stamp's form in a session: digits. As a number it would not survive each store where another crate has switched on
/// `serde_json`'s `arbitrary_precision`.
impl From<Millis> for Value {
    fn from(Millis(milliseconds): Millis) -> Self {
        milliseconds.to_string().into()
    }
}

/// Reads a stamp as seen at `now`: digits, or an integer of somebody else's. Anything else than a sensible time is a mistake
/// that the next refresh repairs.
pub(crate) fn from_stamp(stamp: &Value, now: Millis) -> Result<Millis, BadStamp> {
    let milliseconds = match stamp {
        Value::String(digits)
            if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) =>
        {
            digits.parse().ok()
        }
        Value::Number(number) if number.is_i64() || number.is_u64() => number.as_i64(),
        _ => return Err(BadStamp::NotAnInteger),
    };
    let at = milliseconds.filter(|milliseconds| *milliseconds >= 0);
    let at = at.and_then(Millis::new).ok_or(BadStamp::OutOfRange)?;
    if at > now.saturating_add(CLOCK_SKEW) {
        return Err(BadStamp::InTheFuture);
    }
    Ok(at)
}

/// Whether a session refreshed at `last` is due at `now`. One never refreshed is due.
pub(crate) fn is_due(last: Option<Millis>, now: Millis, interval: Duration) -> bool {
    last.is_none_or(|last| now.0.saturating_sub(last.0) >= whole_millis(interval))
}

/// What a refresh at one moment would do to a session whose true expiry is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extension {
    /// When the session would end.
    pub(crate) expiry: Millis,
    /// It is due if it ends by then and before `expiry`.
    pub(crate) due_before: Millis,
}

impl Extension {
    /// To `rolling`, but not past `limit`, if the last one was at least `interval` earlier. The last one before a limit may
    /// gain less than that.
    pub(crate) fn to(rolling: Millis, limit: Option<Millis>, interval: Duration) -> Self {
        Self {
            expiry: limit.map_or(rolling, |limit| limit.min(rolling)),
            due_before: rolling.saturating_sub(interval),
        }
    }

    /// To `expiry`, if the session ends earlier.
    pub(crate) fn always(expiry: Millis) -> Self {
        Self {
            expiry,
            due_before: expiry,
        }
    }

    /// When a session ends at the earliest that is not due.
    pub(crate) fn at_least(&self) -> Millis {
        self.due_before.min(self.expiry)
    }

    pub(crate) fn is_due(&self, expires_at: Millis) -> bool {
        expires_at <= self.due_before && expires_at < self.expiry
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;
    use time::macros::datetime;

    use super::*;

    const NOW: OffsetDateTime = datetime!(2026-11-23 12:00 UTC);

    fn json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            ".*".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 16, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::hash_map(".*", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    fn instant() -> impl Strategy<Value = OffsetDateTime> {
        let first = datetime!(-9999-01-01 0:00 UTC).unix_timestamp();
        let last = datetime!(9999-12-31 23:59:59 UTC).unix_timestamp();
        (first..=last, 0..1_000_i64).prop_map(|(seconds, milliseconds)| {
            OffsetDateTime::from_unix_timestamp(seconds).unwrap()
                + Duration::milliseconds(milliseconds)
        })
    }

    /// From 1970 on, far enough from the end of time that sums stay in range.
    fn now() -> impl Strategy<Value = OffsetDateTime> {
        (0..200_000_000_000_i64, 0..1_000_i64).prop_map(|(seconds, milliseconds)| {
            OffsetDateTime::from_unix_timestamp(seconds).unwrap()
                + Duration::milliseconds(milliseconds)
        })
    }

    fn interval() -> impl Strategy<Value = Duration> {
        (1..10_000_000_000_i64).prop_map(Duration::milliseconds)
    }

    fn due(stamp: &Value, now: OffsetDateTime, interval: Duration) -> bool {
        is_due(from_stamp(stamp, now.into()).ok(), now.into(), interval)
    }

    fn to_stamp(at: OffsetDateTime) -> Value {
        Millis::from(at).into()
    }

    proptest! {
        #[test]
        fn no_stamp_no_clock_and_no_interval_panics(
            stamp in json(), now in instant(), seconds in any::<i64>(), nanoseconds in 0..1_000_000_000_i32,
        ) {
            due(&stamp, now, Duration::new(seconds, nanoseconds));
            due(&to_stamp(now), now, Duration::new(seconds, nanoseconds));
        }

        #[test]
        fn a_stamp_is_read_as_it_was_written(now in now()) {
            let stamp = to_stamp(now);
            prop_assert_eq!(from_stamp(&stamp, now.into()).map(OffsetDateTime::from), Ok(now));
            // Also as the integer that it is.
            let integer: i64 = stamp.as_str().unwrap().parse().unwrap();
            prop_assert_eq!(from_stamp(&integer.into(), now.into()).map(OffsetDateTime::from), Ok(now));
        }

        #[test]
        fn never_due_twice_within_an_interval(now in now(), interval in interval(), part in 0.0..1.0_f64) {
            let later = now + (interval - Duration::milliseconds(1)) * part;
            prop_assert!(!due(&to_stamp(now), later, interval));
        }

        #[test]
        fn always_due_after_an_interval(now in now(), interval in interval(), more in 0..1_000_000_000_i64) {
            prop_assert!(due(&to_stamp(now), now + interval + Duration::milliseconds(more), interval));
        }

        #[test]
        fn once_due_due_until_refreshed(now in now(), first in 0..1_000_000_000_i64, more in 0..1_000_000_000_i64, interval in interval()) {
            let stamp = to_stamp(now);
            let earlier = now + Duration::seconds(first);
            let later = earlier + Duration::seconds(more);
            prop_assert!(!due(&stamp, earlier, interval) || due(&stamp, later, interval));
        }

        #[test]
        fn a_clock_that_jumps_heals_itself(now in now(), interval in interval()) {
            // Stamped while the clock was a year ahead: due at once when it is right again, and then as usual.
            let ahead = to_stamp(now + Duration::days(365));
            prop_assert_eq!(from_stamp(&ahead, now.into()), Err(BadStamp::InTheFuture));
            prop_assert!(due(&ahead, now, interval));
            prop_assert!(!due(&to_stamp(now), now, interval));
            // Stamped while it was a year behind: due after the jump, if a year is an interval.
            let behind = to_stamp(now);
            prop_assert_eq!(due(&behind, now + Duration::days(365), interval), interval <= Duration::days(365));
        }
    }

    proptest! {
        #[test]
        fn an_extension_never_shortens(now in now(), left in -1_000_000_000..100_000_000_000_i64, lifetime in interval(), interval in interval()) {
            let expires_at = now + Duration::milliseconds(left);
            let extension = Extension::to((now + lifetime).into(), None, interval);
            let gained = OffsetDateTime::from(extension.expiry) - expires_at;
            prop_assert_eq!(extension.is_due(expires_at.into()), gained >= interval);
        }

        #[test]
        fn an_extended_session_is_due_one_interval_later(now in now(), lifetime in interval(), interval in interval()) {
            let at = |time: OffsetDateTime| Extension::to((time + lifetime).into(), None, interval);
            let expires_at = at(now).expiry;
            prop_assert!(!at(now + interval - Duration::milliseconds(1)).is_due(expires_at));
            prop_assert!(at(now + interval).is_due(expires_at));
        }

        #[test]
        fn no_extension_passes_a_limit_and_the_last_one_reaches_it(now in now(), left in 1..1_000_000_000_i64, to_limit in 1..1_000_000_000_i64, lifetime in interval(), interval in interval()) {
            let (expires_at, limit) = (now + Duration::milliseconds(left), now + Duration::milliseconds(to_limit));
            let (expires_at, limit) = (Millis::from(expires_at), Millis::from(limit));
            let extension = Extension::to((now + lifetime).into(), Some(limit), interval);
            prop_assert!(extension.expiry <= limit);
            // An interval has passed since a session was extended that is not at its limit yet.
            let is_old = expires_at <= Millis::from(now + lifetime - interval);
            prop_assert_eq!(extension.is_due(expires_at), is_old && expires_at < extension.expiry);
            prop_assert!(!extension.is_due(limit));
        }

        #[test]
        fn no_extension_panics(now in instant(), seconds in any::<i64>(), lifetime in any::<i64>()) {
            let expiry = Millis::from(now).saturating_add(Duration::seconds(lifetime));
            Extension::to(expiry, Some(now.into()), Duration::seconds(seconds)).is_due(now.into());
        }
    }

    #[test]
    fn milliseconds_hold_every_time() {
        for time in [
            PrimitiveDateTime::MIN.assume_utc(),
            datetime!(1969-12-31 23:59:59.999 UTC),
            OffsetDateTime::UNIX_EPOCH,
            NOW,
        ] {
            assert_eq!(OffsetDateTime::from(Millis::from(time)), time);
        }
        let end = Millis::from(PrimitiveDateTime::MAX.assume_utc());
        assert_eq!(end.saturating_add(Duration::MAX), end);
        assert_eq!(
            OffsetDateTime::from(end),
            datetime!(9999-12-31 23:59:59.999 UTC)
        );
        assert_eq!(Millis::new(Millis::MAX + 1), None);
        assert_eq!(Millis::new(Millis::MIN - 1), None);
    }

    #[test]
    fn what_is_no_stamp_counts_as_never_refreshed() {
        for (stamp, why) in [
            (json!(null), BadStamp::NotAnInteger),
            (json!("2026-11-23T12:00:00Z"), BadStamp::NotAnInteger),
            (json!(1.5), BadStamp::NotAnInteger),
            (json!([1]), BadStamp::NotAnInteger),
            (json!({"at": 1}), BadStamp::NotAnInteger),
            (json!(true), BadStamp::NotAnInteger),
            (json!(""), BadStamp::NotAnInteger),
            (json!("-1"), BadStamp::NotAnInteger),
            (json!("+1"), BadStamp::NotAnInteger),
            (json!("1 "), BadStamp::NotAnInteger),
            (json!("9223372036854775807"), BadStamp::OutOfRange),
            (json!("99999999999999999999"), BadStamp::OutOfRange),
            (json!(-1), BadStamp::OutOfRange),
            (json!(i64::MAX), BadStamp::OutOfRange),
            (json!(u64::MAX), BadStamp::OutOfRange),
            (
                to_stamp(NOW + CLOCK_SKEW + Duration::milliseconds(1)),
                BadStamp::InTheFuture,
            ),
        ] {
            assert_eq!(from_stamp(&stamp, NOW.into()), Err(why), "{stamp}");
        }
        assert!(is_due(None, NOW.into(), Duration::MAX));
    }

    #[test]
    fn a_minute_of_clock_skew_is_no_mistake() {
        let ahead = NOW + CLOCK_SKEW;
        assert_eq!(from_stamp(&to_stamp(ahead), NOW.into()), Ok(ahead.into()));
        assert!(!due(&to_stamp(ahead), NOW, Duration::milliseconds(1)));
    }

    #[test]
    fn whatever_number_of_milliseconds_is_the_nearest_time_that_there_is() {
        for (milliseconds, time) in [
            (i64::MIN, PrimitiveDateTime::MIN.assume_utc()),
            (0, OffsetDateTime::UNIX_EPOCH),
            (i64::MAX, datetime!(9999-12-31 23:59:59.999 UTC)),
        ] {
            let nearest = Millis::clamp(milliseconds);
            assert_eq!(OffsetDateTime::from(nearest), time);
            assert_eq!(Millis::new(milliseconds).is_some(), milliseconds == 0);
            assert_eq!(Millis::from(time), nearest);
        }
    }

    #[test]
    fn due_exactly_at_the_interval() {
        let interval = Duration::hours(24);
        let stamp = to_stamp(NOW);
        assert!(!due(
            &stamp,
            NOW + interval - Duration::nanoseconds(1),
            interval
        ));
        assert!(due(&stamp, NOW + interval, interval));
    }
}
