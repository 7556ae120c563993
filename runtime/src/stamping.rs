//! A refresh by a stamp in the session's data: for tower-sessions' layer alone, which can only save whole records.
//!
//! The stamp is written after the handler, and the record is loaded afresh just before, so that little time is left in which
//! another request's change or logout can be lost.

use std::{sync::Arc, time::SystemTime};

use http::response;
use time::Duration;

use crate::{
    cache_headers, events,
    lifetime::Lifetime,
    outcome::{Finding, Inactivity, Outcome, RefreshInfo, SkipReason},
    request::Inherited,
    schedule::{self, BadStamp, Millis},
    session::{Session, SessionError},
};

/// A refresh that is due, and happens when the handler has answered.
#[derive(Clone)]
pub(crate) struct StampRefresh {
    session: Session,
    inherited: Option<Arc<Inherited>>,
    interval: Duration,
    key: &'static str,
    read: LastRefresh,
    /// What is true of the session if nothing is done.
    pub(crate) unrefreshed: RefreshInfo,
}

/// Whether a refresh of the session is due. Shows `see` how long the session lives.
pub(crate) async fn examine(
    session: Session,
    inherited: Option<&Arc<Inherited>>,
    interval: Duration,
    key: &'static str,
    inactivity: Option<Inactivity>,
    see: impl FnOnce(Lifetime),
) -> Result<Finding<Box<StampRefresh>>, SessionError> {
    let Some(read) = LastRefresh::read(&session, key, inherited).await? else {
        let skipped = Outcome::Skipped(SkipReason::NoSession);
        return Ok(Finding::Settled(RefreshInfo::without_session(skipped)));
    };
    let lifetime = Lifetime::alone(session.expiry());
    see(lifetime);
    let unrefreshed = read.info(lifetime);
    if let Some(inactivity) = inactivity {
        let skipped = unrefreshed.with(Outcome::Skipped(inactivity.into()));
        return Ok(Finding::Settled(skipped));
    }
    if unrefreshed.outcome != Outcome::NotDue || !read.is_due(interval) {
        return Ok(Finding::Settled(unrefreshed));
    }
    if let Evidence::BadStamp(mistake) = read.evidence {
        events::bad_stamp(mistake);
    }
    Ok(Finding::Due(Box::new(StampRefresh {
        session,
        inherited: inherited.cloned(),
        interval,
        key,
        read,
        unrefreshed,
    })))
}

impl StampRefresh {
    /// What the refresh makes true, if it happens.
    pub(crate) fn promise(&self) -> RefreshInfo {
        self.refreshed(self.read.now)
    }

    fn refreshed(&self, now: Millis) -> RefreshInfo {
        RefreshInfo {
            refreshed: true,
            refreshed_at: Some(now.into()),
            expires_at: Some(Lifetime::alone(self.session.expiry()).end_at(now).into()),
            ends_at: None,
            outcome: Outcome::Refreshed,
        }
    }

    /// Writes the stamp, unless the response or the session forbids it.
    pub(crate) async fn write(self, response: &mut response::Parts) -> RefreshInfo {
        let modified = self.session.is_modified();
        let shared = cache_headers::may_be_shared(&response.headers, SystemTime::now());
        let skipped = |reason| self.unrefreshed.with(Outcome::Skipped(reason));
        let info = if response.status.is_server_error() {
            skipped(SkipReason::ServerError)
        } else if shared && !modified {
            skipped(SkipReason::SharedCache)
        } else {
            self.stamp(modified).await.unwrap_or_else(|error| {
                events::stamp_failed(error);
                self.unrefreshed.with(Outcome::Unavailable)
            })
        };
        match info.outcome {
            Outcome::Refreshed => {
                events::refreshed(info.expires_at);
                // A handler that changed the session and made its response public answers for it.
                if !shared {
                    cache_headers::keep_private(&mut response.headers);
                }
            }
            outcome => events::skipped(outcome),
        }
        info
    }

    /// Inserts the stamp, which marks the session as modified: the layer saves it, and sends the cookie again.
    async fn stamp(&self, modified: bool) -> Result<RefreshInfo, SessionError> {
        let (session, key) = (&self.session, self.key);
        let inherited = self.inherited.as_ref();
        let gone = RefreshInfo::without_session(Outcome::Gone);
        if session.id().is_none() {
            return Ok(gone);
        }
        // Loads the record if the handler's own `load` did not find it: inserting would create a session then.
        let Some(mut read) = LastRefresh::read(session, key, inherited).await? else {
            return Ok(gone);
        };
        let lifetime = Lifetime::alone(session.expiry());
        if lifetime.idle.is_none() {
            return Ok(read.info(lifetime));
        }
        // The handler has cleared the session, as some applications log out.
        let had_stamp = matches!(self.read.evidence, Evidence::Stamp(_));
        if had_stamp && matches!(read.evidence, Evidence::NoStamp) {
            return Ok(gone);
        }
        if !modified {
            // Another request may have changed, refreshed or ended the session while the handler ran.
            session.load().await?;
            let Some(afresh) = LastRefresh::read(session, key, inherited).await? else {
                return Ok(gone);
            };
            if !afresh.is_due(self.interval) {
                return Ok(afresh.info(lifetime));
            }
            read = afresh;
        }
        session.insert_value(key, read.now.into()).await?;
        Ok(self.refreshed(read.now))
    }
}

/// What a session's data says about its last refresh.
#[derive(Clone, Copy)]
struct LastRefresh {
    now: Millis,
    evidence: Evidence,
}

#[derive(Clone, Copy)]
enum Evidence {
    Stamp(Millis),
    NoStamp,
    /// Something else stands under the stamp's key.
    BadStamp(BadStamp),
}

impl LastRefresh {
    /// Reads the record, loading it if nobody has yet. `None` if there is none in the store.
    async fn read(
        session: &Session,
        key: &str,
        inherited: Option<&Arc<Inherited>>,
    ) -> Result<Option<Self>, SessionError> {
        let stamp = session.get_value(key).await?;
        if session.id().is_none() {
            return Ok(None);
        }
        let now = inherited.map_or_else(Millis::now, |inherited| inherited.now());
        let evidence = match stamp.map(|stamp| schedule::from_stamp(&stamp, now)) {
            None => Evidence::NoStamp,
            Some(Ok(at)) => Evidence::Stamp(at),
            Some(Err(mistake)) => Evidence::BadStamp(mistake),
        };
        Ok(Some(Self { now, evidence }))
    }

    fn at(&self) -> Option<Millis> {
        match self.evidence {
            Evidence::Stamp(at) => Some(at),
            Evidence::NoStamp | Evidence::BadStamp(_) => None,
        }
    }

    fn is_due(&self, interval: Duration) -> bool {
        schedule::is_due(self.at(), self.now, interval)
    }

    /// What is true of a session with this lifetime if it is not refreshed.
    fn info(&self, lifetime: Lifetime) -> RefreshInfo {
        // A session that lives on after this has been written since, by whom is not known.
        let extended = (self.at().zip(lifetime.idle)).map(|(at, idle)| at.saturating_add(idle));
        let expires_at = extended.filter(|end| *end > self.now);
        RefreshInfo {
            refreshed: false,
            refreshed_at: self.at().map(Into::into),
            expires_at: lifetime.end.or(expires_at).map(Into::into),
            ends_at: lifetime.end.map(Into::into),
            outcome: match lifetime.idle {
                Some(_) => Outcome::NotDue,
                None => Outcome::Skipped(SkipReason::FixedExpiry),
            },
        }
    }
}
