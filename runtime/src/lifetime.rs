//! How long a session lives: arithmetic on values, and the text in which a record keeps what is the session's own.

use std::fmt::Write as _;

use time::Duration;

use crate::schedule::{Extension, Millis, whole_millis};

/// How long tower-sessions keeps a session on the server whose cookie ends with the browser (core's `DEFAULT_DURATION`).
const BROWSER_SESSION: Duration = Duration::weeks(2);

/// The entry of a record's data in which a session keeps its own lifetime.
pub(crate) const KEY: &str = "session_refresh.lifetime";

/// tower-sessions' `Expiry`, whatever its release, to the millisecond.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expiry {
    OnInactivity(Duration),
    AtDateTime(Millis),
    OnSessionEnd,
}

impl Expiry {
    /// Cuts what is finer than a millisecond.
    pub(crate) fn on_inactivity(idle: Duration) -> Self {
        Self::OnInactivity(Duration::milliseconds(whole_millis(idle)))
    }

    /// When tower-sessions lets a session end that it saves at `now`.
    pub(crate) fn date(this: Option<Self>, now: Millis) -> Millis {
        match this {
            Some(Self::OnInactivity(idle)) => now.saturating_add(idle),
            Some(Self::AtDateTime(end)) => end,
            Some(Self::OnSessionEnd) | None => now.saturating_add(BROWSER_SESSION),
        }
    }
}

/// What a layer says of all its sessions, beside tower-sessions' expiry.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Settings {
    pub(crate) idle: Option<Duration>,
    pub(crate) cookie_age: Option<Duration>,
    pub(crate) max_lifetime: Option<Duration>,
    /// The latest expiry that the store can keep.
    pub(crate) latest: Option<Millis>,
}

/// What a session keeps of its own lifetime in its record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct OwnLifetime {
    /// The application's `set_expiry`, if that differs from the layer's.
    pub(crate) expiry: Option<Expiry>,
    /// What the absolute limit counts from.
    pub(crate) started: Option<Millis>,
    /// An absolute limit of the session's own.
    pub(crate) max_lifetime: Option<Duration>,
}

impl OwnLifetime {
    /// The absolute limit, the lower of the session's own and the layer's, as a length.
    pub(crate) fn max_lifetime(&self, settings: &Settings) -> Option<Duration> {
        let both = [self.max_lifetime, settings.max_lifetime];
        both.into_iter().flatten().min()
    }

    /// When the session ends, however active its user is.
    pub(crate) fn end(&self, settings: &Settings) -> Option<Millis> {
        let limit = (self.started.zip(self.max_lifetime(settings)))
            .map(|(started, max)| started.saturating_add(max));
        let fixed = match self.expiry {
            Some(Expiry::AtDateTime(end)) => Some(end),
            _ => None,
        };
        [limit, fixed].into_iter().flatten().min()
    }

    /// The record's entry; `None` if there is nothing to keep.
    ///
    /// As text, since numbers change their form in some stores, and in `serde_json` by its features.
    pub(crate) fn to_text(self) -> Option<String> {
        let mut text = String::new();
        let mut word = |name: &str, value: Option<i64>| {
            let separator = if text.is_empty() { "" } else { " " };
            let written = match value {
                Some(value) => write!(text, "{separator}{name}={value}"),
                None => write!(text, "{separator}{name}"),
            };
            written.expect("a string takes every text");
        };
        match self.expiry {
            Some(Expiry::OnInactivity(idle)) => word("idle", Some(whole_millis(idle))),
            Some(Expiry::AtDateTime(end)) => word("end", Some(end.into())),
            Some(Expiry::OnSessionEnd) => word("browser", None),
            None => {}
        }
        if let Some(started) = self.started {
            word("from", Some(started.into()));
        }
        if let Some(max) = self.max_lifetime {
            word("max", Some(whole_millis(max)));
        }
        (!text.is_empty()).then_some(text)
    }

    /// Reads the record's entry. `None` where another has written something there that is not of this form.
    pub(crate) fn from_text(text: &str) -> Option<Self> {
        let mut own = Self::default();
        for word in text.split(' ') {
            if word == "browser" {
                own.expiry = Some(Expiry::OnSessionEnd);
                continue;
            }
            let (name, value) = word.split_once('=')?;
            let value: i64 = value.parse().ok()?;
            let length = || Duration::milliseconds(value);
            match name {
                "idle" => own.expiry = Some(Expiry::OnInactivity(length())),
                "end" => own.expiry = Some(Expiry::AtDateTime(Millis::new(value)?)),
                "from" => own.started = Some(Millis::new(value)?),
                "max" => own.max_lifetime = Some(length()),
                _ => return None,
            }
        }
        Some(own)
    }
}

/// How long one session lives: what its layer says of all, and what is its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lifetime {
    /// How long after its last extension it ends. `None`: it is never extended.
    pub(crate) idle: Option<Duration>,
    /// When it ends at the latest: a fixed end or an absolute limit.
    pub(crate) end: Option<Millis>,
    /// The latest expiry that its store can keep.
    latest: Option<Millis>,
    cookie: CookieAge,
}

/// How long the cookie lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CookieAge {
    /// Until the browser is closed: it has no `Max-Age`.
    BrowserSession,
    /// So long after each response that sends it, and no longer than the session may live.
    Rolling(Duration),
    /// So long after each response that sends it.
    Set(Duration),
    /// Until the session's end.
    UntilEnd,
}

impl Lifetime {
    /// `expiry` is that of tower-sessions' layer.
    pub(crate) fn new(expiry: Option<Expiry>, own: &OwnLifetime, settings: &Settings) -> Self {
        let limit = own.end(settings);
        let server_idle = |idle| settings.idle.unwrap_or(idle);
        let rolling = |age: Duration| match settings.cookie_age {
            Some(age) => CookieAge::Set(age),
            None => CookieAge::Rolling(age),
        };
        let (idle, end, cookie) = match own.expiry.or(expiry) {
            Some(Expiry::AtDateTime(end)) => {
                let end = limit.map_or(end, |limit| limit.min(end));
                (None, Some(end), CookieAge::UntilEnd)
            }
            Some(Expiry::OnInactivity(idle)) if own.expiry.is_some() => {
                (Some(idle), limit, rolling(idle))
            }
            Some(Expiry::OnInactivity(idle)) => (Some(server_idle(idle)), limit, rolling(idle)),
            Some(Expiry::OnSessionEnd) | None => (
                Some(server_idle(BROWSER_SESSION)),
                limit,
                CookieAge::BrowserSession,
            ),
        };
        Self {
            idle,
            end,
            latest: settings.latest,
            cookie,
        }
    }

    /// What tower-sessions' layer alone makes of its expiry: it keeps nothing in the record.
    pub(crate) fn alone(expiry: Option<Expiry>) -> Self {
        Self::new(expiry, &OwnLifetime::default(), &Settings::default())
    }

    /// When a session ends that is extended at `now`.
    pub(crate) fn end_at(&self, now: Millis) -> Millis {
        let extended = self.idle.map(|idle| now.saturating_add(idle));
        let ends = [extended, self.end, self.latest];
        ends.into_iter().flatten().min().unwrap_or(now)
    }

    /// What an extension at `now` would do; `None` if the session ends at a fixed time.
    pub(crate) fn extension(&self, now: Millis, interval: Duration) -> Option<Extension> {
        let rolling = now.saturating_add(self.idle?);
        let limit = [self.end, self.latest].into_iter().flatten().min();
        Some(Extension::to(rolling, limit, interval))
    }

    /// The expiry that has tower-sessions' layer send the right cookie at `now`.
    pub(crate) fn cookie(&self, now: Millis) -> Expiry {
        let until_end = self.end.map(|end| end.since(now));
        Expiry::OnInactivity(match self.cookie {
            CookieAge::BrowserSession => return Expiry::OnSessionEnd,
            CookieAge::Set(age) => age,
            CookieAge::Rolling(age) => until_end.map_or(age, |left| left.min(age)),
            CookieAge::UntilEnd => until_end.unwrap_or_default(),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn length() -> impl Strategy<Value = Duration> {
        any::<i64>().prop_map(Duration::milliseconds)
    }

    fn own() -> impl Strategy<Value = OwnLifetime> {
        let expiry = prop_oneof![
            length().prop_map(Expiry::OnInactivity),
            (0..200_000_000_000_000_i64)
                .prop_map(|at| Expiry::AtDateTime(Millis::new(at).unwrap())),
            Just(Expiry::OnSessionEnd),
        ];
        let started = (0..200_000_000_000_000_i64).prop_map(|at| Millis::new(at).unwrap());
        let options = (
            prop::option::of(expiry),
            prop::option::of(started),
            prop::option::of(length()),
        );
        options.prop_map(|(expiry, started, max_lifetime)| OwnLifetime {
            expiry,
            started,
            max_lifetime,
        })
    }

    fn settings() -> impl Strategy<Value = Settings> {
        let option = || prop::option::of(length());
        (option(), option(), option()).prop_map(|(idle, cookie_age, max_lifetime)| Settings {
            idle,
            cookie_age,
            max_lifetime,
            latest: Some(Millis::LATEST),
        })
    }

    proptest! {
        #[test]
        fn what_a_record_keeps_is_read_as_it_was_written(own in own()) {
            let read = own.to_text().map(|text| OwnLifetime::from_text(&text));
            prop_assert_eq!(read.unwrap_or(Some(OwnLifetime::default())), Some(own));
        }

        #[test]
        fn no_text_panics(text in ".*", words in "((idle|end|from|max)=-?[0-9]{0,22} ?|browser ?){0,5}") {
            let _ = (OwnLifetime::from_text(&text), OwnLifetime::from_text(&words));
        }

        #[test]
        fn no_end_is_later_than_a_limit_and_no_number_panics(
            layer in prop::option::of(length()), own in own(), settings in settings(), now in -1_000_000_000_000..200_000_000_000_000_i64, interval in length(),
        ) {
            let now = Millis::new(now).unwrap();
            let lifetime = Lifetime::new(layer.map(Expiry::OnInactivity), &own, &settings);
            let end = lifetime.end_at(now);
            prop_assert!(lifetime.end.is_none_or(|limit| end <= limit));
            if let Some(extension) = lifetime.extension(now, interval) {
                prop_assert_eq!(extension.expiry, end);
            }
            lifetime.cookie(now);
        }
    }

    #[test]
    fn what_is_not_of_the_form_is_nothing() {
        for text in [
            "",
            " ",
            "idle",
            "idle=",
            "idle=x",
            "browser=1",
            "idle=1  max=2",
            "max=99999999999999999999",
            "end=9223372036854775807",
            "later=1",
        ] {
            assert_eq!(OwnLifetime::from_text(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_session_ends_at_its_fixed_end_or_at_its_limit_whichever_is_first() {
        let at = |milliseconds| Millis::new(milliseconds).unwrap();
        let settings = Settings::default();
        for (fixed, max, end) in [
            (None, None, None),
            (Some(7), None, Some(7)),
            (None, Some(5), Some(6)),
            (Some(7), Some(5), Some(6)),
            (Some(3), Some(5), Some(3)),
        ] {
            let own = OwnLifetime {
                expiry: fixed.map(|end| Expiry::AtDateTime(at(end))),
                started: Some(at(1)),
                max_lifetime: max.map(Duration::milliseconds),
            };
            assert_eq!(own.end(&settings), end.map(at), "{own:?}");
        }
    }
}
