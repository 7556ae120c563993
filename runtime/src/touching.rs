//! A refresh by a touch: before the handler, and in the store, which does it only if the session is there and due.

use time::Duration;

use crate::{
    events,
    lifetime::Lifetime,
    outcome::{Finding, Outcome, RefreshInfo, SkipReason},
    request::Handle,
    schedule::{Extension, Millis},
    session::SessionError,
    store::TouchResult,
};

/// A refresh that is due, its user not known yet.
pub(crate) struct TouchRefresh {
    handle: Handle,
    /// When the request arrived: that is the activity.
    arrived: Millis,
    expiry: Millis,
    extension: Extension,
    /// What is true of the session if nothing is done.
    pub(crate) unrefreshed: RefreshInfo,
}

/// Whether a refresh of the handle's session is due.
pub(crate) async fn examine(
    handle: &Handle,
    interval: Duration,
) -> Result<Finding<TouchRefresh>, SessionError> {
    let Handle { session, request } = handle;
    let Some(expiry) = request.expiry(session).await? else {
        let skipped = Outcome::Skipped(SkipReason::NoSession);
        return Ok(Finding::Settled(RefreshInfo::without_session(skipped)));
    };
    let info = |refreshed_at: Option<Millis>, outcome| RefreshInfo {
        refreshed: false,
        refreshed_at: refreshed_at.map(Into::into),
        expires_at: Some(expiry.into()),
        outcome,
    };
    let Lifetime::Rolling(idle) = session.lifetime() else {
        let skipped = Outcome::Skipped(SkipReason::FixedExpiry);
        return Ok(Finding::Settled(info(None, skipped)));
    };
    let arrived = request.now();
    // A session that was given another lifetime may end later than an extension just now would make it.
    let refreshed_at = Some(expiry.saturating_sub(idle)).filter(|at| *at <= arrived);
    let unrefreshed = info(refreshed_at, Outcome::NotDue);
    let extension = Extension::at(arrived, idle, interval);
    if !extension.is_due(expiry) {
        return Ok(Finding::Settled(unrefreshed));
    }
    Ok(Finding::Due(TouchRefresh {
        handle: handle.clone(),
        arrived,
        expiry,
        extension,
        unrefreshed,
    }))
}

impl TouchRefresh {
    /// How long the session still lives.
    pub(crate) fn remaining(&self) -> Duration {
        self.expiry.since(self.arrived)
    }

    pub(crate) async fn refresh(self) -> RefreshInfo {
        let Handle { session, request } = &self.handle;
        let info = match request.touch(session, self.extension).await {
            TouchResult::Done => RefreshInfo {
                refreshed: true,
                refreshed_at: Some(self.arrived.into()),
                expires_at: Some(self.extension.expiry.into()),
                outcome: Outcome::Refreshed,
            },
            // Another request was faster. When exactly is not known, but that the session ends later than what was due.
            TouchResult::NotDue => RefreshInfo {
                refreshed_at: None,
                expires_at: (self.unrefreshed.expires_at)
                    .max(Some(self.extension.due_before.into())),
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
