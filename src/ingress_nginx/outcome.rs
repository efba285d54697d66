//! What becomes of a setting of ingress-nginx: the form of the tables in which everything it documents is listed.
//!
//! It holds no name of a setting; those are in `annotations`, `configmap` and `directives`.

use super::setting::Setting;

/// Settings that share a outcome.
pub(super) struct Entry {
    /// With spaces between.
    pub(super) names: &'static str,
    pub(super) outcome: Outcome,
}

/// What becomes of a setting, and why. The texts follow the setting's name and a colon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// A key of ours takes its value.
    Mapped(Setting),
    /// Nothing has to be done, for this reason.
    NotNeeded(&'static str),
    /// What sidestream does not do, and where to do it.
    Gateway(&'static str),
    /// Text in nginx's own language, which is read directive by directive.
    Snippet(Scope),
}

/// Where nginx puts a snippet, and so what its directives are about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// The requests to the service: what a directive says can become a setting of ours.
    Requests,
    /// The subrequests to an authentication service.
    Authentication,
    /// TCP and UDP, which are no business of an HTTP proxy.
    Tcp,
}

/// The outcome of a name, in a table.
pub(super) fn find(table: &[Entry], name: &str) -> Option<Outcome> {
    table.iter().find(|entry| entry.names.split(' ').any(|known| known == name)).map(|entry| entry.outcome)
}

/// Every name in a table.
pub(super) fn names(table: &[Entry]) -> impl Iterator<Item = &'static str> {
    table.iter().flat_map(|entry| entry.names.split(' '))
}
