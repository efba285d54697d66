//! The token of a stream: a WebSocket's first message may contain it; the client is notified before it expires, and
//! replaces it or reconnects with another one; the stream ends no later than the token expires.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::{Value, json};

use crate::access::{Authentication, Authenticator, Claim, NotAuthenticated, Principal, Verifying, Withdrawn};
use crate::admission::{self, Admitted, Caller, NoSlot};
use crate::codec::json;

use super::command::{Answer, Refused, result};
use super::message::{Command, parse};
use super::{CloseReason, Now, Session, WriterContext};

/// How long before `exp` the client is notified: this share of the remaining time at acceptance...
const NOTICE_SHARE: f64 = 0.25;
/// ...but at most this long.
const NOTICE_MAX: Duration = Duration::from_secs(60);
/// When an SSE or NDJSON stream ends before `exp`: between these shares of the notice period, at random, so that
/// clients whose tokens expire together do not reconnect together.
const END_SHARES: [f64; 2] = [0.1, 0.5];
/// The command, as in responses.
const AUTHENTICATE: &str = "authenticate";

/// A token that is being verified. Later messages wait for it.
#[derive(Debug)]
pub(super) struct Verification {
    /// Of the command.
    id: Value,
    verifying: Box<dyn Verifying>,
    pub(super) since: Instant,
}

impl Verification {
    pub(super) fn has_ended(&self) -> bool {
        self.verifying.result().is_some()
    }
}

impl Session {
    /// When the notice for a token that is accepted now is due. `None` without `exp`, or if it is out of range.
    pub(super) fn notice_at(principal: &Principal, now: Now) -> Option<Instant> {
        let left = left(principal, now)?;
        now.instant.checked_add(left - left.mul_f64(NOTICE_SHARE).min(NOTICE_MAX))
    }

    /// Queues the expiry notice, or ends the stream, whichever is due. A WebSocket ends at `exp`, because a command can
    /// replace its token until then; other streams end before, and reconnect.
    pub(super) fn expire(&mut self, now: Now) {
        if self.expires.is_none_or(|due| due > now.instant) {
            return;
        }
        let Some(principal) = &self.request.principal else {
            return self.close(CloseReason::AuthenticationTimeout);
        };
        let (expires, left) = (principal.expires_at, left(principal, now).unwrap_or_default());
        if self.is_noticed || left.is_zero() {
            self.queue.clear_unsent();
            return self.end(CloseReason::TokenExpired, now);
        }
        let early = if self.form.transport.takes_commands() {
            Duration::ZERO
        } else {
            let [least, most] = END_SHARES;
            left.mul_f64(least + (most - least) * self.jitter)
        };
        self.is_noticed = true;
        self.expires = Some(now.instant + (left - early));
        if let Some(expires) = expires.filter(|_| !self.is_unanswered()) {
            let notice = self.auth_record(expires, now);
            // Without room for it, the client is too slow to react in time.
            let _ = self.push_control(notice);
        }
    }

    /// Ends the stream where its principal is no longer accepted. Gives whether it ended now.
    pub fn end_if_withdrawn(&mut self, now: Now) -> bool {
        let principal = self.request.principal.as_ref().filter(|_| self.closed.is_none());
        let withdrawn = principal.and_then(Principal::withdrawn);
        let Some(withdrawn) = withdrawn else { return false };
        self.queue.clear_unsent();
        self.end(withdrawn.into(), now);
        true
    }

    fn auth_record(&mut self, expires: i64, now: Now) -> Bytes {
        self.control("auth", json::auth(expires), None, now)
    }

    /// Replaces the token of a WebSocket by another one of the same subject with the same access.
    pub(super) fn authenticate(
        &mut self,
        id: Value,
        command: &Command,
        context: &mut WriterContext<'_>,
    ) -> Option<Refused> {
        let refused = |why: &str| Err((Refused::Token, why.to_owned()));
        let answer = match (command.token.as_deref(), self.authenticator()) {
            (None, _) => Err((Refused::Malformed, "no `token`".to_owned())),
            _ if self.request.principal.is_none() => refused("this route takes no token"),
            (_, None) => refused("no token is accepted here"),
            (Some(token), Some(authenticator)) => {
                match authenticator.authenticate(token, context.now.unix_ms, context.waiter()) {
                    Authentication::Done(verified) => self.renew(verified, context.now),
                    Authentication::Pending(verifying) => {
                        self.wait_for(Verification { id, verifying, since: context.now.instant });
                        return None;
                    }
                }
            }
        };
        self.respond(&id, Some(AUTHENTICATE), &answer, context.now);
        answer.err().map(|(refused, _)| refused)
    }

    fn renew(&mut self, verified: Result<Principal, NotAuthenticated>, now: Now) -> Answer {
        let refused = |why: &str| (Refused::Token, why.to_owned());
        let holder = self.request.principal.as_ref().ok_or_else(|| refused("this route takes no token"))?;
        let principal = verified.map_err(|error| match error {
            NotAuthenticated::Refused(why) => refused(&why),
            NotAuthenticated::Unavailable(why) => (Refused::Unavailable, why),
        })?;
        if !principal.is_same_as(holder, self.claims()) {
            return Err(refused("the token is of another subject, or does not show the same"));
        }
        let expires = principal.expires_at;
        (self.expires, self.is_noticed) = (Self::notice_at(&principal, now), false);
        self.request.principal = Some(self.request.held(principal));
        result(&json!({ "expires": expires }))
    }

    /// Authenticates a WebSocket that was opened without a token by its first message, and starts it.
    pub(super) fn first_message(&mut self, text: &str, context: &mut WriterContext<'_>) -> Option<Refused> {
        let (id, command) = parse(text);
        let token = command.ok().filter(Command::is_authenticate).and_then(|command| command.token);
        let Some((token, authenticator)) = token.zip(self.authenticator()) else {
            return self.fail_first(CloseReason::AuthenticationFailed);
        };
        match authenticator.authenticate(&token, context.now.unix_ms, context.waiter()) {
            Authentication::Done(verified) => self.start_with(&id, verified, context),
            Authentication::Pending(verifying) => {
                self.wait_for(Verification { id, verifying, since: context.now.instant });
                None
            }
        }
    }

    /// The verification that the WebSocket waits for.
    pub(super) fn verification(&self) -> Option<&Verification> {
        self.websocket.as_ref()?.verification.as_ref()
    }

    fn wait_for(&mut self, verification: Verification) {
        if let Some(side) = &mut self.websocket {
            side.verification = Some(verification);
        }
    }

    /// Continues with the result of a verification, if it has ended.
    pub(super) fn verified(&mut self, context: &mut WriterContext<'_>) -> Option<Refused> {
        let verified = self.verification()?.verifying.result()?;
        // Between the result and now, the principal may have been withdrawn, which ends only streams that have it.
        let verified = verified.and_then(|principal| match principal.withdrawn() {
            Some(_) => Err(NotAuthenticated::Refused("the token is not accepted any more".into())),
            None => Ok(principal),
        });
        let limits = self.request.route.websocket;
        let Verification { id, .. } = self.websocket.as_mut()?.end_verification(limits, context.now)?;
        if self.request.is_unauthenticated() {
            return self.start_with(&id, verified, context);
        }
        let answer = self.renew(verified, context.now);
        self.respond(&id, Some(AUTHENTICATE), &answer, context.now);
        answer.err().map(|(refused, _)| refused)
    }

    fn start_with(
        &mut self,
        id: &Value,
        verified: Result<Principal, NotAuthenticated>,
        context: &mut WriterContext<'_>,
    ) -> Option<Refused> {
        match self.admit_bearer(verified, context.now) {
            Ok(expires) => {
                self.respond(id, Some(AUTHENTICATE), &result(&json!({ "expires": expires })), context.now);
                self.begin(context);
                None
            }
            Err(reason) => self.fail_first(reason),
        }
    }

    fn fail_first(&mut self, reason: CloseReason) -> Option<Refused> {
        self.close(reason);
        (reason == CloseReason::AuthenticationFailed).then_some(Refused::Token)
    }

    /// Decides on the first message as on a handshake with its token. Returns the token's `exp`. An error closes the
    /// socket without details, because the client is not authenticated.
    fn admit_bearer(
        &mut self,
        verified: Result<Principal, NotAuthenticated>,
        now: Now,
    ) -> Result<Option<i64>, CloseReason> {
        let failed = CloseReason::AuthenticationFailed;
        let principal = verified.map_err(|error| match error {
            NotAuthenticated::Refused(_) => failed,
            NotAuthenticated::Unavailable(_) => CloseReason::Unverified,
        })?;
        let socket = self.request.socket.as_ref().ok_or(failed)?;
        let params = socket.unauthenticated.as_ref().ok_or(failed)?;
        let caller = Caller { principal: Some(&principal), ..self.request.caller() };
        let rights = admission::admit(&self.request.route, params, &caller).map_err(|_| failed)?;
        let taken = socket.slots.take_for(&self.request.route, &principal, now.instant);
        let Admitted { slot, meters } = taken.map_err(|none| match none {
            NoSlot::Route => CloseReason::RouteLimit,
            NoSlot::Quota(_) => CloseReason::Quota,
        })?;
        let expires = principal.expires_at;
        self.expires = Self::notice_at(&principal, now);
        (self.request.selector, self.request.rule) = (rights.selector, rights.rule);
        self.request.principal = Some(self.request.held(principal));
        if let Some(socket) = &mut self.request.socket {
            (socket.unauthenticated, socket.slot) = (None, Some(slot));
        }
        self.request.count_in(meters);
        Ok(expires)
    }

    fn authenticator(&self) -> Option<&Arc<dyn Authenticator>> {
        self.request.socket.as_ref()?.authenticator.as_ref()
    }

    /// The claims for which the token was evaluated: those of the connection's route, and of later subscriptions.
    fn claims(&self) -> impl Iterator<Item = Claim<'_>> {
        let routes = self.subscriptions.iter().map(|subscription| &subscription.route).chain([&self.request.route]);
        routes.flat_map(|route| route.claims())
    }
}

impl From<Withdrawn> for CloseReason {
    fn from(withdrawn: Withdrawn) -> Self {
        match withdrawn {
            Withdrawn::Revoked => Self::Revoked,
            Withdrawn::Unverified => Self::Unverified,
        }
    }
}

/// The remaining time of a token.
fn left(principal: &Principal, now: Now) -> Option<Duration> {
    let ms = principal.expires_at?.saturating_sub(now.unix_ms);
    Some(Duration::from_millis(u64::try_from(ms).unwrap_or(0)))
}

#[cfg(test)]
#[path = "token_tests.rs"]
mod tests;
