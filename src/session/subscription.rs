//! The subscriptions of a session: which events it receives, and how far each one is.

use std::sync::Arc;

use super::{Request, Session, WriterContext, catch_up, resume, snapshot};
use crate::access::Selector;
use crate::admission::{Admitted, Rights};
use crate::codec::Frame;
use crate::cursor::Positions;
use crate::event::{Event, FrameKey, Gap};
use crate::hub::Subscriber;
use crate::route::{Stream, StreamRoute};
use crate::rule::{BoundRule, Judge};

/// One subscription of a session.
#[derive(Debug)]
pub(super) struct Subscription {
    /// The route whose rules apply.
    pub(super) route: Arc<StreamRoute>,
    pub(super) stream: Arc<Stream>,
    pub(super) selector: Selector,
    pub(super) rule: Option<Arc<BoundRule>>,
    /// The key of its encodings, according to its own route.
    pub(super) frame: FrameKey,
    /// One of the route's streams, with its quotas; the first subscription uses the connection's.
    pub(super) admitted: Option<Box<Admitted>>,
    pub(super) progress: Progress,
    /// Its start position, from which it sends every matching event. Only for a WebSocket, which may have several
    /// subscriptions.
    pub(super) from: Option<Box<Positions>>,
}

/// The progress of a subscription.
#[derive(Debug)]
pub(super) enum Progress {
    /// The start position is not known yet.
    Waiting(Box<resume::Waiting>),
    /// It receives the state before the changes.
    Snapshot(Box<snapshot::Sending>),
    /// In catch-up.
    Replaying(Box<catch_up::Replaying>),
    /// Live, and in the index.
    Live,
}

impl Session {
    /// Lets the socket count in the quotas of its subscriptions.
    pub(super) fn count_subscriptions(&mut self) {
        let admitted = self.subscriptions.iter().filter_map(|subscription| subscription.admitted.as_deref());
        self.request.count_in_subscribed(admitted.flat_map(|admitted| &admitted.meters));
    }

    /// Adds a subscription that has reached live events to the index.
    pub(super) fn enlist(&mut self, n: usize, context: &mut WriterContext<'_>) {
        let Subscription { stream, selector, frame, from, .. } = &mut self.subscriptions[n];
        if self.websocket.is_some() && from.is_none() && context.hub.is_ready(stream) {
            *from = Some(Box::new(context.hub.positions(stream)));
        }
        self.last_seq = self.last_seq.max(context.hub.newest_seq(stream));
        context.index.subscribe(stream, selector, Subscriber { session: context.session, frame: *frame });
    }

    /// Removes a live subscription from the index.
    pub(super) fn delist(&mut self, n: usize, context: &mut WriterContext<'_>) {
        let Subscription { stream, selector, frame, progress, .. } = &self.subscriptions[n];
        if matches!(progress, Progress::Live) {
            context.index.unsubscribe(stream, selector, Subscriber { session: context.session, frame: *frame });
        }
    }
}

impl Subscription {
    /// Whether it selects the event, and its rule allows it.
    pub(super) fn wants(&self, event: &Arc<Event>, judge: &Judge) -> bool {
        self.selector.matches(event) && judge.allows(self.rule.as_ref(), event)
    }

    /// Whether it receives what a subscription with these rights would, with the same fields.
    pub(super) fn receives(&self, route: &StreamRoute, rights: &Rights) -> bool {
        self.stream.id == route.stream.id
            && (&self.selector, &self.rule) == (&rights.selector, &rights.rule)
            && self.route.fields == route.fields
    }

    pub(super) fn frame(&self) -> Frame<'_> {
        Frame { key: self.frame, fields: self.route.fields.as_deref() }
    }
}

/// The `refresh` URL for a gap: that of the first subscription whose events may be missing.
pub(super) fn refresh<'a>(subscriptions: &'a [Subscription], gap: &Gap, request: &'a Request) -> Option<&'a str> {
    let is_of = |s: &&Subscription| gap.ranges.iter().any(|range| s.stream.topics.contains(&range.topic));
    let route = subscriptions.iter().find(is_of).map_or(&request.route, |subscription| &subscription.route);
    route.refresh.as_deref()
}
