//! How to come here, what to choose, and what to watch.

#[doc = include_str!("guide/django.md")]
pub mod django {}

#[doc = include_str!("guide/by_hand.md")]
pub mod by_hand {}

#[doc = include_str!("guide/intervals.md")]
pub mod intervals {}

#[doc = include_str!("guide/lifetimes.md")]
pub mod lifetimes {}

#[doc = include_str!("guide/auditors.md")]
pub mod auditors {}

#[doc = include_str!("guide/limits.md")]
pub mod limits {}

#[doc = include_str!("guide/responses.md")]
pub mod responses {}

#[doc = include_str!("guide/operating.md")]
pub mod operating {}

#[doc = include_str!("guide/costs.md")]
#[doc = ""]
#[doc = include_str!("guide/instructions.svg")]
#[doc = ""]
#[doc = include_str!("guide/cpu.svg")]
#[doc = ""]
#[doc = include_str!("guide/contention.svg")]
#[doc = ""]
#[doc = include_str!("guide/day.svg")]
#[doc = ""]
#[doc = include_str!("guide/scale.svg")]
pub mod costs {}

/// A store of an application's own that can touch: everything that [`Touch`](crate::store::Touch) asks for, on a table with a
/// column for each thing. `LifetimeLayer::new(UserSessions(pool), …)` takes it.
///
/// ```ignore
#[doc = include_str!("guide/own_table.rs")]
/// ```
///
/// It is compiled, and held to its promises, with this crate's tests. Hold yours to them by a test such as this, with the
/// feature `conformance`:
///
/// ```ignore
/// #[tokio::test]
/// async fn my_store_can_touch() {
///     session_refresh::store::conformance::check(UserSessions(pool().await)).await;
/// }
/// ```
pub mod own_table {}

#[cfg(test)]
mod tests {
    const OPERATING: &str = include_str!("guide/operating.md");

    #[test]
    fn every_event_is_in_the_table_of_events() {
        for text in crate::events::ALL {
            // A mistake's text begins alike in every build, and goes on with what would mend it.
            let listed = text.split_once(". ").map_or(*text, |(begin, _)| begin);
            assert!(OPERATING.contains(listed), "{text}");
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
            SkipReason::Passive,
            SkipReason::Prefetch,
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
