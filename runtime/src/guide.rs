//! How to come here, what to choose, and what to watch.

#[doc = include_str!("guide/django.md")]
pub mod django {}

#[doc = include_str!("guide/by_hand.md")]
pub mod by_hand {}

#[doc = include_str!("guide/intervals.md")]
pub mod intervals {}

#[doc = include_str!("guide/operating.md")]
pub mod operating {}

#[cfg(test)]
mod tests {
    const OPERATING: &str = include_str!("guide/operating.md");

    /// The message of each event in a source: the last string literal of the macro's call.
    fn messages(source: &str) -> Vec<String> {
        let source = source.split("#[cfg(test)]").next().unwrap_or_default();
        let calls = source.split("target: TARGET").skip(1);
        calls
            .map(|call| {
                let call = call.split(");").next().unwrap_or_default();
                let message = call.rsplit('"').nth(1).unwrap_or_default();
                // A literal over several lines.
                let lines: Vec<_> = message.split("\\\n").map(str::trim_start).collect();
                lines.concat()
            })
            .collect()
    }

    #[test]
    fn every_event_is_in_the_table_of_events() {
        let sources = [
            include_str!("decide.rs"),
            include_str!("layer.rs"),
            include_str!("store/request_store.rs"),
        ];
        let found: Vec<_> = sources.into_iter().flat_map(messages).collect();
        assert!(found.len() >= 11, "{found:?}");
        for message in found {
            // The text of a `Misuse`.
            let listed = if message == "{message}" {
                "Can't"
            } else {
                &message
            };
            assert!(OPERATING.contains(listed), "{message}");
        }
    }

    #[test]
    fn every_outcome_is_in_the_table_of_outcomes() {
        use crate::{Outcome, SkipReason};
        let skips = [
            SkipReason::NoSession,
            SkipReason::Unauthenticated,
            SkipReason::Staff,
            SkipReason::Superuser,
            SkipReason::Path,
            SkipReason::Predicate,
            SkipReason::FixedExpiry,
            SkipReason::ServerError,
            SkipReason::SharedCache,
        ];
        let others = [
            Outcome::Refreshed,
            Outcome::NotDue,
            Outcome::Gone,
            Outcome::Unavailable,
        ];
        for outcome in skips.map(Outcome::Skipped).into_iter().chain(others) {
            assert!(OPERATING.contains(&format!("| `{outcome}` |")), "{outcome}");
        }
    }
}
