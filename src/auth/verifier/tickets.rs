//! Tickets of a verifier: issued for a principal, and redeemed if its token would still be accepted.

use std::sync::Arc;
use std::time::Duration;

use jsonwebtoken::errors::ErrorKind;

use super::{Verifier, standing};
use crate::access::{Authority, Claim, Claims, Principal};
use crate::auth::SignError;
use crate::auth::claims::revocable_claims;
use crate::auth::ticket::{Ticket, Tickets};
use crate::auth::token_error::TokenError;

impl Verifier {
    /// A ticket for the token of this principal on one route and path, and its expiry in milliseconds since the Unix
    /// epoch. It contains these claims and no others. A stream that a ticket for an introspected token opens
    /// ends when the answer is too old, because the server cannot be asked about a ticket; `age` is that of now.
    ///
    /// # Errors
    ///
    /// It cannot be signed.
    pub fn issue_ticket<'a>(
        &self,
        (principal, age): (&Principal, Duration),
        route: &str,
        path: &str,
        claims: impl Iterator<Item = Claim<'a>>,
        now_unix_ms: i64,
    ) -> Result<(String, i64), SignError> {
        let unknown = || SignError(ErrorKind::InvalidKeyFormat.into());
        let tickets = self.tickets.as_ref().ok_or_else(unknown)?;
        let mut known = self.fingerprints(tickets).iter();
        let (_, authority) = known.find(|(known, _)| *known == principal.authority).ok_or_else(unknown)?;
        let asked = self.introspection.iter().find(|asked| asked.authority() == principal.authority);
        let expires_at =
            asked.map_or(principal.expires_at, |asked| asked.holds_until(principal.expires_at, age, now_unix_ms));
        let until = tickets.until(expires_at, now_unix_ms);
        let claims = principal.claims_for(claims);
        let ticket = Ticket {
            route: route.into(),
            path: path.into(),
            until,
            token_until: expires_at,
            authority: authority.clone(),
            known: claims.known().unwrap_or_default().into(),
            claims: (*claims).clone(),
            revocable_by: self.revocations.get().map(|_| revocable_claims(&principal.claims)),
        };
        Ok((tickets.sign(&ticket)?, until))
    }

    /// The principal of a ticket's token, if the ticket is valid for this route and path, and the token would still be
    /// accepted.
    ///
    /// # Errors
    ///
    /// Why the ticket is rejected.
    pub fn redeem_ticket(
        &self,
        text: &str,
        route: &str,
        path: &str,
        now_unix_ms: i64,
    ) -> Result<Principal, TokenError> {
        let tickets = self.tickets.as_ref().ok_or(TokenError::Key)?;
        let ticket = tickets.read(text)?;
        if (&*ticket.route, &*ticket.path) != (route, path) {
            return Err(TokenError::Audience);
        }
        let leeway = i64::try_from(self.leeway.as_millis()).unwrap_or(i64::MAX);
        let is_over = |until: i64| now_unix_ms >= until.saturating_add(leeway);
        if is_over(ticket.until) || ticket.token_until.is_some_and(is_over) {
            return Err(TokenError::Expired);
        }
        let trusted = self.fingerprints(tickets).iter().find(|(_, known)| *known == ticket.authority);
        let &(authority, _) = trusted.ok_or(TokenError::Key)?;
        let revocable = match &ticket.revocable_by {
            Some(claims) => self.revocable(claims)?,
            // The ticket was issued before revocation was configured.
            None => self.revocable(&ticket.claims)?,
        };
        Ok(Principal {
            claims: Arc::new(Claims::of_known(ticket.claims, ticket.known)),
            expires_at: ticket.token_until,
            authority,
            standing: standing(revocable),
        })
    }

    /// Every authority with its fingerprint, which is the same on all replicas.
    fn fingerprints(&self, tickets: &Tickets) -> &[(Authority, String)] {
        self.fingerprints.get_or_init(|| {
            let of_issuers = self.issuers.iter().flat_map(|trusted| trusted.fingerprints(tickets));
            let of_keys = self.api_keys.iter().flat_map(|keys| keys.fingerprints(tickets));
            let of_server = self.introspection.iter().filter_map(|asked| asked.fingerprint(tickets));
            of_issuers.chain(of_keys).chain(of_server).collect()
        })
    }
}
