//! The commands `subscribe` and `unsubscribe`: which streams a WebSocket may add.

use std::sync::Arc;

use serde_json::json;

use crate::access::Binding;
use crate::admission::{self, Admitted, NoSlot, Rights};
use crate::cursor::SnapshotCursor;
use crate::route::{Found, OnGap, Stream, StreamRoute};

use super::super::message::{Command, quoted};
use super::super::{Now, Progress, Resume, Session, WriterContext};
use super::{Answer, Refused, result};

impl Session {
    pub(super) fn subscribe(&mut self, command: &Command, context: &WriterContext<'_>) -> Answer {
        let resource = command.resource.as_deref().ok_or_else(|| (Refused::Malformed, "no `resource`".to_owned()))?;
        let (route, rights) = self.resolve(resource)?;
        let stream = route.stream.clone();
        if self.subscriptions.iter().any(|known| known.receives(&route, &rights)) {
            return Err((Refused::Subscription, format!("`{}` is subscribed already", quoted(resource))));
        }
        let most = self.request.route.websocket.subscriptions;
        if self.subscriptions.len() >= most {
            return Err((Refused::Subscription, format!("a connection may hold {most} subscriptions")));
        }
        let resume = command.since.as_deref().map(|since| self.since(since, &route, context)).transpose()?;
        let from_state = asks_for_state(command, &stream, context)?;
        let slot = self.take_slot(&route, context.now)?;
        let from = match resume.as_ref().map(Resume::cursor) {
            Some(cursor) => cursor.cloned(),
            None if from_state => None,
            None => context.hub.cursor_now(&stream),
        };
        self.add_subscription(route, rights, slot);
        self.count_subscriptions();
        let last = self.subscriptions.len() - 1;
        match resume {
            Some(Resume::Within(within)) => self.send_state(last, Some(*within), None),
            Some(resume) => self.resume(last, resume, context),
            None if from_state => self.send_state(last, None, None),
            None => {}
        }
        result(&json!({ "resource": resource, "cursor": from.map(|cursor| cursor.to_string()) }))
    }

    /// The resume position. If the log has to be read to validate it, a loss is reported in the stream.
    fn since(
        &self,
        since: &str,
        route: &StreamRoute,
        context: &WriterContext<'_>,
    ) -> Result<Resume, (Refused, String)> {
        let stream = &*route.stream;
        let refused = |why: &str| (Refused::Subscription, why.to_owned());
        let resume: Resume = since.parse().map_err(|error| refused(&format!("`since`: {error}")))?;
        if !context.hub.is_ready(stream) {
            return Err(refused("the log has not been read yet; ask again"));
        }
        let Some(cursor) = resume.cursor() else { return Ok(resume) };
        if !context.hub.ahead(stream, cursor).is_nothing() {
            return Err(refused("`since` lies beyond what was read here so far; ask again, or start without it"));
        }
        let limits = context.log.limits();
        let is_lost = || !context.hub.plan(stream, cursor, &limits).gaps.is_empty();
        let is_late = context.hub.is_time_needed(stream, cursor, &limits).is_some();
        if route.on_gap == OnGap::Gone && !is_late && is_lost() {
            return Err(refused("the events asked for can't be served any more; subscribe without `since`"));
        }
        Ok(resume)
    }

    /// Starts the most recent subscription.
    pub(super) fn start_last(&mut self, context: &mut WriterContext<'_>) {
        let n = self.subscriptions.len() - 1;
        match self.subscriptions[n].progress {
            Progress::Live => self.enlist(n, context),
            Progress::Waiting(_) | Progress::Snapshot(_) | Progress::Replaying(_) => drop(self.catch_up(context)),
        }
    }

    pub(super) fn unsubscribe(&mut self, command: &Command, context: &mut WriterContext<'_>) -> Answer {
        let gone: Vec<usize> = match &command.resource {
            None => (0..self.subscriptions.len()).collect(),
            Some(resource) => {
                let (route, rights) = self.resolve(resource)?;
                let is_it = |n: &usize| self.subscriptions[*n].receives(&route, &rights);
                let absent = || (Refused::Subscription, format!("`{}` is not subscribed", quoted(resource)));
                vec![(0..self.subscriptions.len()).find(is_it).ok_or_else(absent)?]
            }
        };
        for n in gone.into_iter().rev() {
            self.delist(n, context);
            self.subscriptions.remove(n);
        }
        self.count_subscriptions();
        result(&json!({ "subscriptions": self.subscriptions.len() }))
    }

    /// A resource is the path of a stream, or a value of this route's key. A path is subject to the same decision as a
    /// request for it.
    pub(super) fn resolve(&self, resource: &str) -> Result<(Arc<StreamRoute>, Rights), (Refused, String)> {
        let refused = |why: &str| (Refused::Subscription, format!("`{}`: {why}", quoted(resource)));
        let own = &self.request.route;
        let (route, rights) = if resource.starts_with('/') {
            let Found::Stream { route, params } = self.request.routes.find(resource) else {
                return Err(refused("no stream has this path"));
            };
            let rights = admission::admit(route, &params, &self.request.caller());
            (route, rights.map_err(|why| refused(&why.to_string()))?)
        } else {
            let (key, binding) = own.chosen_key().ok_or_else(|| refused("this route has no key to choose by"))?;
            let selector = self.request.selector.with(key, resource, binding, self.request.principal.as_ref());
            let selector = selector.map_err(|why| refused(&why.to_string()))?;
            let parameter = binding.and_then(Binding::parameter);
            let rule = self.request.rule.as_ref().map(|rule| match parameter {
                Some(parameter) => rule.with_parameter(parameter, resource),
                None => rule.clone(),
            });
            let rights = Rights { selector, rule }.admitted();
            (own, rights.map_err(|why| refused(&why.to_string()))?)
        };
        if !self.request.may_subscribe(own, route, &rights.selector, rights.rule.as_ref()) {
            return Err(refused("this WebSocket may not subscribe to it: see `websocket.subscribe` of its route"));
        }
        Ok((route.clone(), rights))
    }

    /// Takes one of the route's streams, under its quotas. The connection itself holds one for the first subscription to
    /// its own route, which needs none.
    fn take_slot(&self, route: &Arc<StreamRoute>, now: Now) -> Result<Option<Admitted>, (Refused, String)> {
        let is_first = !self.subscriptions.iter().any(|known| known.route.pattern == route.pattern);
        if is_first && route.pattern == self.request.route.pattern {
            return Ok(None);
        }
        let holder = self.request.principal.as_ref();
        let taken = self.request.socket.as_ref().map(|socket| socket.slots.subscribe(route, holder, now.instant));
        match taken {
            Some(Ok(admitted)) => Ok(Some(admitted)),
            Some(Err(NoSlot::Quota(quota))) => {
                Err((Refused::Quota, format!("too many streams (quota `{quota}`); unsubscribe, or ask later")))
            }
            Some(Err(NoSlot::Route)) | None => {
                Err((Refused::Subscription, "the route's limit of streams is reached".to_owned()))
            }
        }
    }
}

/// Whether the state precedes the changes: the client asks for it, or was disconnected within a snapshot.
fn asks_for_state(command: &Command, stream: &Stream, context: &WriterContext<'_>) -> Result<bool, (Refused, String)> {
    let is_within = command.since.as_deref().is_some_and(SnapshotCursor::is_like);
    let refused = |why: String| (Refused::Subscription, why);
    match command.from.as_deref() {
        None if !is_within => return Ok(false),
        None | Some("state") => {}
        Some(_) => return Err(refused("`from` is `state`; a position is `since`".into())),
    }
    let table = context.log.table(stream).ok_or_else(|| refused("this stream has no state".into()))?;
    table.cut(context.now.instant).map_err(|why| refused(why.to_string()))?;
    Ok(true)
}
