//! What a reload means for a stream that is open: it goes on, under the new settings, where what it was opened as is
//! still there; else it has to end. It decides; ending many at a bounded rate is the writer's.

use std::sync::{Arc, Weak};

use rustc_hash::{FxHashMap, FxHashSet};

use crate::access::{Authenticator, Authority};
use crate::route::{RouteTable, StreamRoute, Transport};

use super::{Request, Session, Subscription};

/// A configuration that takes another one's place, as far as streams are concerned.
#[derive(Debug)]
pub struct Reload {
    before: Weak<RouteTable>,
    routes: Arc<RouteTable>,
    by_pattern: FxHashMap<Arc<str>, Successor>,
    trusted: FxHashSet<Authority>,
    authenticator: Option<Arc<dyn Authenticator>>,
}

/// A route of the new configuration.
#[derive(Debug)]
struct Successor {
    route: Arc<StreamRoute>,
    /// Patterns of routes that take paths from it.
    exceptions: Box<[Arc<str>]>,
}

impl Reload {
    /// `trusted` is everything that the acceptance of a token may rest on from now on.
    pub fn new(
        before: &Arc<RouteTable>,
        routes: Arc<RouteTable>,
        trusted: impl IntoIterator<Item = Authority>,
    ) -> Self {
        let successors = routes.routes_and_exceptions().map(|(route, exceptions)| {
            let exceptions = exceptions.into_iter().cloned().collect();
            (route.pattern.clone(), Successor { route: route.clone(), exceptions })
        });
        let by_pattern = successors.collect();
        Self {
            before: Arc::downgrade(before),
            routes,
            by_pattern,
            trusted: trusted.into_iter().collect(),
            authenticator: None,
        }
    }

    /// What verifies the tokens that replace others from now on.
    pub fn verified_by(self, authenticator: Option<Arc<dyn Authenticator>>) -> Self {
        Self { authenticator, ..self }
    }

    /// The routes whose place it takes.
    pub fn before(&self) -> Weak<RouteTable> {
        self.before.clone()
    }

    /// The route on which a stream with this request goes on, if it can: its token is trusted, and what it was opened as
    /// is still there.
    pub fn goes_on(&self, request: &Request) -> Option<&Arc<StreamRoute>> {
        let is_trusted = request.principal.as_ref().is_none_or(|who| self.trusted.contains(&who.authority));
        let route = self.successor(&request.route, &request.routes).filter(|_| is_trusted)?;
        if request.is_unauthenticated() && !route.token_from.message {
            return None;
        }
        shows_the_same(&request.route, route, request.transport).then_some(route)
    }

    /// The transports whose streams on `old`, one of `known`, end whatever their tokens; all of them, or none, or some.
    pub fn ends(&self, old: &StreamRoute, known: &RouteTable) -> Vec<Transport> {
        let successor = self.successor(old, known);
        let offered = |transport: &Transport| old.offer.has(*transport);
        let ends = |transport: &Transport| successor.is_none_or(|new| !shows_the_same(old, new, *transport));
        Transport::ALL.into_iter().filter(offered).filter(ends).collect()
    }

    /// The route that goes on delivering what `old`, one of `known`, delivers: of the same pattern and for the same
    /// paths, with the same stream for the same people.
    fn successor(&self, old: &StreamRoute, known: &RouteTable) -> Option<&Arc<StreamRoute>> {
        let Successor { route, exceptions } = self.by_pattern.get(&old.pattern)?;
        let is_whole = exceptions.iter().all(|pattern| known.has(pattern));
        (is_whole && delivers_the_same(old, route)).then_some(route)
    }
}

impl Session {
    /// Goes on under the new configuration, with its heartbeat interval, `retry`, queue, `refresh`, `on_gap` and limits.
    /// False where it can't: then nothing was changed, and the stream has to end.
    pub fn take_over(&mut self, reload: &Reload) -> bool {
        if Arc::ptr_eq(&self.request.routes, &reload.routes) || self.closed.is_some() {
            return true;
        }
        let Some(route) = reload.goes_on(&self.request) else { return false };
        let source = |subscription: &Subscription| {
            let Subscription { route: old, selector, .. } = subscription;
            let source = reload.successor(old, &self.request.routes)?;
            let is_open = self.request.may_subscribe(route, source, selector);
            (is_open && shows_the_same(old, source, self.request.transport)).then_some(source)
        };
        let Some(sources) = self.subscriptions.iter().map(source).collect::<Option<Vec<_>>>() else { return false };
        for (subscription, source) in self.subscriptions.iter_mut().zip(sources) {
            subscription.route = source.clone();
        }
        self.settle_in(route, reload);
        true
    }

    fn settle_in(&mut self, route: &Arc<StreamRoute>, reload: &Reload) {
        self.request.route = route.clone();
        self.request.routes = reload.routes.clone();
        if let Some(socket) = &mut self.request.socket {
            socket.authenticator = reload.authenticator.clone();
        }
        self.heartbeat_due = self.quiet_since() + self.heartbeat_interval();
    }

    /// Whether it was opened under these routes.
    pub fn is_of(&self, routes: &Weak<RouteTable>) -> bool {
        std::ptr::eq(routes.as_ptr(), Arc::as_ptr(&self.request.routes))
    }
}

/// Whether the same people get the same events.
fn delivers_the_same(old: &StreamRoute, new: &StreamRoute) -> bool {
    let is_bound = |one: &StreamRoute, other: &StreamRoute| one.bindings.iter().all(|b| other.bindings.contains(b));
    old.stream == new.stream && old.admission == new.admission && is_bound(old, new) && is_bound(new, old)
}

/// Whether a stream of this transport looks the same and could still be opened as it was.
fn shows_the_same(old: &StreamRoute, new: &StreamRoute, transport: Transport) -> bool {
    let still = |old: &[Box<str>], new: &[Box<str>]| old.iter().all(|one| new.contains(one));
    let is_opened_alike = !transport.is_upgrade()
        || still(&old.subprotocols, &new.subprotocols) && still(&old.allowed_origins, &new.allowed_origins);
    new.offer.has(transport) && is_opened_alike && old.form(transport, true) == new.form(transport, true)
}

#[cfg(test)]
#[path = "reload_tests.rs"]
mod tests;
