//! The outcome of a setting of ingress-nginx, and the tables that list every documented setting.
//!
//! It contains no names of settings; those are in `annotations`, `configmap` and `directives`.

use super::setting::Setting;

/// Settings with the same outcome.
pub(super) struct Entry {
    /// Separated by spaces.
    pub(super) names: &'static str,
    pub(super) outcome: Outcome,
}

/// The outcome of a setting, and the reason. The texts follow the setting's name and a colon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// A key takes its value.
    Mapped(Setting),
    /// Nothing is needed, for this reason.
    NotNeeded(&'static str),
    /// Not supported by sidestream; where to configure it instead.
    Gateway(&'static str),
    /// A text in nginx's own language, which is parsed directive by directive.
    Snippet(Scope),
    /// The service that a login is left to: `auth.forward`.
    Login,
    /// The policy of an Ingress's streams: `cors`.
    Cors,
}

/// Where nginx inserts a snippet, which determines the effect of its directives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// Requests to the service: directives may map to keys.
    Requests,
    /// The subrequests to an authentication service.
    Authentication,
    /// TCP and UDP, which an HTTP proxy does not handle.
    Tcp,
}

/// The outcome of a setting in a table.
pub(super) fn find(table: &[Entry], name: &str) -> Option<Outcome> {
    table.iter().find(|entry| entry.names.split(' ').any(|known| known == name)).map(|entry| entry.outcome)
}

/// All names in a table.
pub(super) fn names(table: &[Entry]) -> impl Iterator<Item = &'static str> {
    table.iter().flat_map(|entry| entry.names.split(' '))
}
