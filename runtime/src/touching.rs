//! A refresh by a touch: before the handler, and in the store, which does it only if the session is there and due.

use time::Duration;

use crate::{
    events,
    lifetime::Lifetime,
    outcome::{Finding, Inactivity, Outcome, RefreshInfo, SkipReason},
    request::Handle,
    schedule::{Extension, Millis},
    session::SessionError,
    store::TouchResult,
};

/// A refresh that is due, its user not known yet.
#[derive(Clone)]
pub(crate) struct TouchRefresh {
    handle: Handle,
    /// When the request arrived: that is the activity.
    arrived: Millis,
    expiry: Millis,
    extension: Extension,
    /// What is true of the session if nothing is done.
    pub(crate) unrefreshed: RefreshInfo,
}

/// Whether a refresh of the handle's session is due. Shows `see` how long the session lives.
pub(crate) async fn examine(
    handle: &Handle,
    interval: Duration,
    inactivity: Option<Inactivity>,
    see: impl FnOnce(Lifetime),
) -> Result<Finding<Box<TouchRefresh>>, SessionError> {
    let Handle { session, request } = handle;
    let Some(found) = request.find(session).await? else {
        let skipped = Outcome::Skipped(SkipReason::NoSession);
        return Ok(Finding::Settled(RefreshInfo::without_session(skipped)));
    };
    see(found.lifetime);
    let (expiry, end) = (found.expiry, found.lifetime.end);
    let arrived = request.now();
    // One that ends at its end, or later than an extension just now would make it, does not tell when it was extended.
    let is_rolling = end != Some(expiry);
    let refreshed_at = (found.lifetime.idle)
        .map(|idle| expiry.saturating_sub(idle))
        .filter(|at| is_rolling && *at <= arrived);
    let extension = found.lifetime.extension(arrived, interval);
    let skip = match (inactivity, extension) {
        (Some(inactivity), _) => Some(inactivity.into()),
        (None, None) => Some(SkipReason::FixedExpiry),
        (None, Some(_)) => None,
    };
    let unrefreshed = RefreshInfo {
        refreshed: false,
        refreshed_at: refreshed_at.map(Into::into),
        expires_at: Some(expiry.into()),
        ends_at: end.map(Into::into),
        outcome: skip.map_or(Outcome::NotDue, Outcome::Skipped),
    };
    // If it is not: its record has to say what its absolute limit counts from, and a touch sees to that.
    let is_counted = found.is_counted || inactivity.is_some();
    let extension = extension.unwrap_or(Extension::to(expiry, end, interval));
    if is_counted && (skip.is_some() || !extension.is_due(expiry)) {
        return Ok(Finding::Settled(unrefreshed));
    }
    Ok(Finding::Due(Box::new(TouchRefresh {
        handle: handle.clone(),
        arrived,
        expiry,
        extension,
        unrefreshed,
    })))
}

/// The same for a session that may have been held for long, and the refresh.
///
/// What is known of it says whether a refresh can be due. Others may have extended it since, have logged it out, or have
/// given it another lifetime: then the store is asked.
pub(crate) async fn touch_again(
    handle: &Handle,
    interval: Duration,
) -> Result<RefreshInfo, SessionError> {
    let Handle { session, request } = handle;
    if let Finding::Settled(info) = examine(handle, interval, None, drop).await?
        && (info.expires_at.is_some() || !request.knows_of(session))
    {
        return Ok(info);
    }
    request.look_again(session).await?;
    Ok(match examine(handle, interval, None, drop).await? {
        Finding::Due(due) => due.refresh().await,
        Finding::Settled(info) if info.expires_at.is_none() => {
            RefreshInfo::without_session(Outcome::Gone)
        }
        Finding::Settled(info) => info,
    })
}

impl TouchRefresh {
    /// How long the session still lives.
    pub(crate) fn remaining(&self) -> Duration {
        self.expiry.since(self.arrived)
    }

    pub(crate) async fn refresh(self) -> RefreshInfo {
        let Handle { session, request } = &self.handle;
        let info = match request.touch(session, self.extension).await {
            TouchResult::Done if self.extension.is_due(self.expiry) => RefreshInfo {
                refreshed: true,
                refreshed_at: Some(self.arrived.into()),
                expires_at: Some(self.extension.expiry.into()),
                ends_at: self.unrefreshed.ends_at,
                outcome: Outcome::Refreshed,
            },
            // It was touched for its record to say what its absolute limit counts from.
            TouchResult::Done => RefreshInfo {
                expires_at: Some(self.extension.expiry.max(self.expiry).into()),
                ..self.unrefreshed
            },
            // Another request was faster. When exactly is not known, but that the session ends later than what was due.
            TouchResult::NotDue => RefreshInfo {
                refreshed_at: None,
                expires_at: (self.unrefreshed.expires_at)
                    .max(Some(self.extension.at_least().into())),
                ..self.unrefreshed
            },
            // Somebody else is writing the session. What he does to it is not known.
            TouchResult::Busy => RefreshInfo {
                refreshed_at: None,
                ..self.unrefreshed
            },
            TouchResult::Gone => RefreshInfo::without_session(Outcome::Gone),
            TouchResult::Failed => self.unrefreshed.with(Outcome::Unavailable),
        };
        match info.outcome {
            Outcome::Refreshed => events::refreshed(info.expires_at),
            outcome => events::skipped(outcome),
        }
        info
    }
}
