//! The effect of a reload on an open stream: it adopts the new settings if its route and access rights still exist;
//! otherwise it has to end. This module decides; the writer ends streams at a bounded rate.

use std::sync::{Arc, Weak};

use rustc_hash::{FxHashMap, FxHashSet};

use crate::access::{Authenticator, Authority};
use crate::route::{RouteTable, StreamRoute, Transport};

use super::{Request, Session, Subscription};

/// A new configuration, as far as it concerns streams.
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
    /// The patterns of routes that take precedence for some of its paths.
    exceptions: Box<[Arc<str>]>,
}

impl Reload {
    /// `trusted` are the authorities whose tokens are valid from now on.
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

    /// Sets the authenticator of tokens that replace others from now on.
    pub fn verified_by(self, authenticator: Option<Arc<dyn Authenticator>>) -> Self {
        Self { authenticator, ..self }
    }

    /// The previous routes.
    pub fn before(&self) -> Weak<RouteTable> {
        self.before.clone()
    }

    /// The route on which a stream of this request continues, if it can: its token's authority is trusted, and its
    /// route and access rights still exist.
    pub fn goes_on(&self, request: &Request) -> Option<&Arc<StreamRoute>> {
        let is_trusted = request.principal.as_ref().is_none_or(|who| self.trusted.contains(&who.authority));
        let route = self.successor(&request.route, &request.routes).filter(|_| is_trusted)?;
        if request.is_unauthenticated() && !route.token_from.message {
            return None;
        }
        shows_the_same(&request.route, route, request.transport).then_some(route)
    }

    /// The transports whose streams on `old`, one of `known`, end regardless of their tokens.
    pub fn ends(&self, old: &StreamRoute, known: &RouteTable) -> Vec<Transport> {
        let successor = self.successor(old, known);
        let offered = |transport: &Transport| old.offer.has(*transport);
        let ends = |transport: &Transport| successor.is_none_or(|new| !shows_the_same(old, new, *transport));
        Transport::ALL.into_iter().filter(offered).filter(ends).collect()
    }

    /// The route that delivers the same as `old`, one of `known`: with the same pattern and paths, the same stream and
    /// the same access rights.
    fn successor(&self, old: &StreamRoute, known: &RouteTable) -> Option<&Arc<StreamRoute>> {
        let Successor { route, exceptions } = self.by_pattern.get(&old.pattern)?;
        let is_whole = exceptions.iter().all(|pattern| known.has(pattern));
        (is_whole && delivers_the_same(old, route)).then_some(route)
    }
}

impl Session {
    /// Adopts the new configuration: heartbeat interval, `retry`, queue, `refresh`, `on_gap` and limits. False if it
    /// cannot: then nothing has changed, and the stream has to end.
    pub fn take_over(&mut self, reload: &Reload) -> bool {
        if Arc::ptr_eq(&self.request.routes, &reload.routes) || self.closed.is_some() {
            return true;
        }
        // A token that is being verified is not accepted yet, and was sent to the previous configuration.
        let goes_on = reload.goes_on(&self.request).filter(|_| self.verification().is_none());
        let Some(route) = goes_on else { return false };
        let source = |subscription: &Subscription| {
            let Subscription { route: old, selector, rule, .. } = subscription;
            let source = reload.successor(old, &self.request.routes)?;
            let is_open = self.request.may_subscribe(route, source, selector, rule.as_ref());
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

    /// Whether it was opened with these routes.
    pub fn is_of(&self, routes: &Weak<RouteTable>) -> bool {
        std::ptr::eq(routes.as_ptr(), Arc::as_ptr(&self.request.routes))
    }
}

/// Whether the same clients receive the same events.
fn delivers_the_same(old: &StreamRoute, new: &StreamRoute) -> bool {
    let is_bound = |one: &StreamRoute, other: &StreamRoute| one.bindings.iter().all(|b| other.bindings.contains(b));
    old.stream == new.stream
        && old.admission == new.admission
        && old.rule == new.rule
        && is_bound(old, new)
        && is_bound(new, old)
}

/// Whether a stream of this transport has the same form, and could be opened in the same way.
fn shows_the_same(old: &StreamRoute, new: &StreamRoute, transport: Transport) -> bool {
    let still = |old: &[Box<str>], new: &[Box<str>]| old.iter().all(|one| new.contains(one));
    let is_opened_alike = !transport.is_upgrade()
        || still(&old.subprotocols, &new.subprotocols) && still(&old.allowed_origins, &new.allowed_origins);
    new.offer.has(transport)
        && is_opened_alike
        && old.fields == new.fields
        && old.form(transport) == new.form(transport)
}

#[cfg(test)]
#[path = "reload_tests.rs"]
mod tests;
