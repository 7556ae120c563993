//! A refresh by a touch: before the handler, and in the store, which does it only if the session is there and due.

use time::Duration;

use crate::{
    events,
    lifetime::Lifetime,
    outcome::{Finding, Inactivity, Outcome, RefreshInfo, SkipReason},
    request::Handle,
    schedule::{Extension, Millis},
    session::SessionError,
    store::{LiveSession, SessionId, TouchResult},
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
    let extension = found.lifetime.extension(arrived, interval);
    let unrefreshed = unrefreshed(&found, inactivity, arrived);
    // If it is not: its record has to say what its absolute limit counts from, and a touch sees to that.
    let is_counted = found.is_counted || inactivity.is_some();
    let extension = extension.unwrap_or(Extension::to(expiry, end, interval));
    if is_counted && (unrefreshed.outcome != Outcome::NotDue || !extension.is_due(expiry)) {
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

/// What is true of a session that is not refreshed.
fn unrefreshed(
    found: &LiveSession,
    inactivity: Option<Inactivity>,
    arrived: Millis,
) -> RefreshInfo {
    let (expiry, Lifetime { idle, end, .. }) = (found.expiry, found.lifetime);
    // One that ends at its end, or later than an extension just now would make it, does not tell when it was extended.
    let is_rolling = end != Some(expiry);
    let refreshed_at = idle
        .map(|idle| expiry.saturating_sub(idle))
        .filter(|at| is_rolling && *at <= arrived);
    let outcome = match (inactivity, idle) {
        (Some(inactivity), _) => Outcome::Skipped(inactivity.into()),
        (None, None) => Outcome::Skipped(SkipReason::FixedExpiry),
        (None, Some(_)) => Outcome::NotDue,
    };
    RefreshInfo {
        refreshed: false,
        refreshed_at: refreshed_at.map(Into::into),
        expires_at: Some(expiry.into()),
        ends_at: end.map(Into::into),
        outcome,
    }
}

/// Asks the store for what others have made of the session since it was loaded.
async fn look_again(handle: &Handle) -> Result<Option<LiveSession>, SessionError> {
    let Handle { session, request } = handle;
    if let Some(id) = session.id() {
        request.look_again(SessionId(id)).await?;
    }
    request.find(session).await
}

/// Whether a refresh is due, as [`examine`] says, of a session that may have been held for long, and the refresh.
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
    look_again(handle).await?;
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

    /// What is true of the session after another request has given it another lifetime.
    async fn seen_again(&self) -> RefreshInfo {
        match look_again(&self.handle).await {
            Ok(Some(found)) => unrefreshed(&found, None, self.arrived),
            Ok(None) => RefreshInfo::without_session(Outcome::Gone),
            Err(error) => {
                events::load_failed(error);
                RefreshInfo::without_session(Outcome::Unavailable)
            }
        }
    }

    pub(crate) async fn refresh(self) -> RefreshInfo {
        let Handle { session, request } = &self.handle;
        let touched = request.touch(session, self.expiry, self.extension).await;
        let info = match touched {
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
            // What he has done to it, the store knows.
            TouchResult::Shortened => self.seen_again().await,
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
