//! The pace of a stream: how many of its queued events it may send now, by the credit that its client gives, by the
//! rate that its client asks for, and by quotas.
//!
//! Events beyond it are held in the queue, under the queue's limits and policy. What is not an event overtakes them,
//! except for gaps, which keep their place. A stream without a limit has no pace, and pays nothing for it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;

use super::command::{Answer, Refused, result};
use super::message::Command;
use super::{ITEMS_PER_WRITE, Now, Request, Session};
use crate::quota::{Buckets, Meter, Rates, Reservation};
use crate::rate::Rate;

/// The most events of credit; more counts as this many. RSocket has the same limit.
pub const CREDIT_MAX: u32 = i32::MAX as u32;

/// The limits of one stream's pace, and its state.
#[derive(Debug, Default)]
pub struct Pace {
    /// The events that the client has room for, beside those that are granted. `None` if it has not limited them.
    credit: Option<u32>,
    /// The quotas that the stream counts in, and the rate that the client asked for.
    meters: Vec<Meter>,
    /// The quotas of the routes that a WebSocket has subscribed to, each once and none of `meters`.
    subscribed: Vec<Meter>,
    is_rate_asked: bool,
    /// The events at the front of the queue that may be written: credit and quotas have been charged for them.
    granted: usize,
    /// Whether credit or a rate held the event after those, when it was last looked at.
    is_held: bool,
    /// The next events, if a rate holds them: they are charged already.
    reserved: Option<Reservation>,
    /// When a quota allows replay to continue, if one holds it.
    replay_due: Option<Instant>,
}

impl Pace {
    /// The pace that a client asks for. `None` if it does not limit anything.
    pub fn asked(credit: Option<u32>, max_rate: Option<u32>, now: Instant) -> Option<Box<Self>> {
        let own = max_rate.map(|events| Meter {
            quota: "maxRate".into(),
            rates: Rates { events: Some(Rate::per_second(events.into())), ..Rates::default() },
            buckets: Arc::new(Buckets::new(now)),
        });
        let is_rate_asked = own.is_some();
        let new = || Self { credit, meters: own.into_iter().collect(), is_rate_asked, ..Self::default() };
        (credit.is_some() || is_rate_asked).then(|| Box::new(new()))
    }

    /// The events a second of the lowest rate, if the client asked for one.
    fn max_rate(&self) -> Option<u64> {
        let rates = self.meters.iter().filter_map(|meter| meter.rates.events);
        rates.map(Rate::units).min().filter(|_| self.is_rate_asked)
    }

    fn all_meters(&self) -> impl Iterator<Item = &Meter> {
        self.meters.iter().chain(&self.subscribed)
    }

    /// Whether all rates allow an event of this many bytes.
    fn is_allowed(&self, bytes: usize, now: Instant) -> bool {
        self.all_meters().all(|meter| meter.wait_to_send(bytes as u64, now).is_none())
    }

    /// Whether it can hold events: a quota of commands or of replay alone does not.
    fn limits_events(&self) -> bool {
        self.credit.is_some() || self.all_meters().any(Meter::limits_events)
    }

    /// Charges for as many of the events at the front of the queue as may be sent.
    fn grant(&mut self, sizes: impl Iterator<Item = usize>, now: Instant) {
        self.is_held = false;
        if !self.limits_events() {
            return;
        }
        self.redeem(now);
        let mut sizes = sizes.skip(self.granted).peekable();
        while let Some(bytes) = sizes.peek().copied() {
            if self.credit == Some(0) || self.reserved.is_some() {
                self.is_held = true;
                return;
            }
            if !self.is_allowed(bytes, now) {
                self.wait(sizes, now);
                return;
            }
            self.all_meters().for_each(|meter| meter.sends(bytes as u64, now));
            self.send(1);
            sizes.next();
        }
    }

    /// Takes the next events in advance, at least one.
    fn wait(&mut self, sizes: impl Iterator<Item = usize>, now: Instant) {
        let meters = self.all_meters().filter(|meter| meter.limits_events()).cloned().collect();
        let mut reserved = Reservation::new(meters, now);
        let credit = self.credit.map_or(usize::MAX, |credit| credit as usize);
        for bytes in sizes.take(credit) {
            if !reserved.has_room() {
                break;
            }
            reserved.take(bytes as u64, now);
        }
        (self.reserved, self.is_held) = (Some(reserved), true);
    }

    /// Lets reserved events pass, if they are due.
    fn redeem(&mut self, now: Instant) {
        if let Some(reserved) = self.reserved.take_if(|reserved| reserved.due() <= now) {
            self.send(reserved.redeem());
        }
    }

    /// Lets further events pass that have been charged for.
    fn send(&mut self, events: usize) {
        self.credit = self.credit.map(|left| left.saturating_sub(u32::try_from(events).unwrap_or(u32::MAX)));
        self.granted += events;
    }

    /// An event was written.
    pub(super) fn sent(&mut self) {
        self.granted = self.granted.saturating_sub(1);
    }

    /// The time at which events or replay continue.
    fn deadline(&self) -> Option<Instant> {
        self.reserved.iter().map(Reservation::due).chain(self.replay_due).min()
    }
}

impl Request {
    /// Lets the stream count in these quotas, in addition to earlier ones.
    pub fn count_in(&mut self, meters: Vec<Meter>) {
        if !meters.is_empty() {
            self.pace.get_or_insert_default().meters.extend(meters);
        }
    }

    /// Lets a WebSocket count in the quotas of its subscriptions, in place of those of earlier ones.
    pub(super) fn count_in_subscribed<'a>(&mut self, meters: impl Iterator<Item = &'a Meter>) {
        let known = self.pace.as_deref().map_or(&[][..], |pace| &pace.meters);
        let mut subscribed: Vec<Meter> = Vec::new();
        for meter in meters {
            if !known.iter().chain(&subscribed).any(|known| known.is_same(meter)) {
                subscribed.push(meter.clone());
            }
        }
        match &mut self.pace {
            None if subscribed.is_empty() => {}
            pace => pace.get_or_insert_default().subscribed = subscribed,
        }
    }

    /// Takes one command from all quotas, or from none.
    ///
    /// # Errors
    ///
    /// The name of the quota that is exceeded the most, and how long it takes until it allows the next command.
    pub(super) fn take_command(&self, now: Instant) -> Result<(), (&str, Duration)> {
        let meters = || self.pace.iter().flat_map(|pace| pace.all_meters());
        let waits = meters().filter_map(|meter| Some((&*meter.quota, meter.wait_for_command(now)?)));
        if let Some(longest) = waits.max_by_key(|(_, wait)| *wait) {
            return Err(longest);
        }
        meters().for_each(|meter| meter.takes_command(now));
        Ok(())
    }
}

impl Session {
    /// The field of a response that answers `maxRate`, as a line; empty if the client did not ask.
    pub(super) fn pace_line(&self) -> String {
        let rate = self.request.pace.as_ref().and_then(|pace| pace.max_rate());
        rate.map(|rate| format!("X-Max-Rate: {rate}\r\n")).unwrap_or_default()
    }

    /// Lets as many queued events pass as the next write may contain.
    pub(super) fn grant(&mut self, now: Now) {
        if let Some(pace) = &mut self.request.pace {
            pace.grant(self.queue.event_sizes().take(ITEMS_PER_WRITE), now.instant);
        }
    }

    /// The number of items at the front of the queue that are not held.
    pub(super) fn released(&self) -> usize {
        match &self.request.pace {
            Some(pace) if pace.limits_events() => self.queue.items_within(pace.granted),
            Some(_) | None => self.queue.len(),
        }
    }

    /// Whether credit or a rate held events at the last write, or holds the replay.
    pub(super) fn is_paced(&self) -> bool {
        self.request.pace.as_ref().is_some_and(|pace| pace.is_held || pace.replay_due.is_some())
    }

    /// Whether credit or a rate holds queued events or the replay.
    pub fn is_holding(&self) -> bool {
        let holds = |pace: &Pace| pace.replay_due.is_some() || self.released() < self.queue.len();
        self.request.pace.as_ref().is_some_and(|pace| holds(pace))
    }

    /// When a rate allows more. Credit has no such time.
    pub fn pace_due(&self) -> Option<Instant> {
        self.request.pace.as_ref()?.deadline()
    }

    /// Lets the events pass whose time has come, and forgets when replay was to continue: the next write looks again.
    pub(super) fn pass_pace(&mut self, now: Instant) {
        if let Some(pace) = &mut self.request.pace {
            pace.redeem(now);
            pace.replay_due = pace.replay_due.filter(|due| *due > now);
        }
    }

    /// Lets all queued events pass that credit and rates allow, before the stream ends.
    pub(super) fn grant_last(&mut self, now: Now) {
        if let Some(pace) = &mut self.request.pace {
            pace.grant(self.queue.event_sizes(), now.instant);
        }
    }

    /// Drops held events before the stream ends: the client resumes with them.
    pub(super) fn drop_held(&mut self) {
        let released = self.released();
        self.queue.truncate(released);
    }

    /// When quotas allow replay to read more of the log; `None` if they do now.
    pub(super) fn replay_due(&mut self, now: Instant) -> Option<Instant> {
        let pace = self.request.pace.as_mut()?;
        let wait = pace.all_meters().filter_map(|meter| meter.wait_to_replay(now)).max();
        pace.replay_due = wait.and_then(|wait| now.checked_add(wait));
        pace.replay_due
    }

    /// Replay has read this many bytes of the log.
    pub(super) fn replays(&self, bytes: usize, now: Instant) {
        let meters = self.request.pace.iter().flat_map(|pace| pace.all_meters());
        meters.for_each(|meter| meter.replays(bytes as u64, now));
    }

    /// The command `credit`: the client has room for more events. The first one limits a stream that had no limit, to
    /// the events after its response.
    pub(super) fn add_credit(&mut self, command: &Command) -> Answer {
        let events = command.events.as_ref().and_then(serde_json::Value::as_u64);
        let events = events.and_then(|events| u32::try_from(events).ok()).filter(|events| *events <= CREDIT_MAX);
        let events = events.ok_or_else(|| {
            (Refused::Malformed, format!("`events` is the number of further events, a whole number up to {CREDIT_MAX}"))
        })?;
        let has_begun = self.queue.has_begun_event();
        let pace = self.request.pace.get_or_insert_default();
        // What a rate has granted is charged already.
        if !pace.limits_events() {
            pace.granted = has_begun.into();
        }
        let credit = pace.credit.unwrap_or_default().saturating_add(events).min(CREDIT_MAX);
        pace.credit = Some(credit);
        // The response follows the events that are granted.
        let granted = pace.granted.saturating_sub(self.queue.events());
        result(&json!({ "credit": credit as usize + granted }))
    }
}

#[cfg(test)]
#[path = "pace_quota_tests.rs"]
mod quota_tests;
#[cfg(test)]
#[path = "pace_tests.rs"]
mod tests;
