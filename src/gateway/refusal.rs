//! Why a stream request is refused: a reason from a fixed set for metrics, and the response.

use crate::problem::Problem;

/// The values of the label `reason` of `streams_rejected_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    /// A path that equals a stream route only after normalization.
    Disguised,
    Method,
    /// The request has a body.
    Body,
    NotAcceptable,
    /// The WebSocket handshake is missing or malformed.
    Handshake,
    /// A misspelt parameter name, or a path value that is too long.
    Parameter,
    /// `since` is not a cursor.
    Position,
    /// `batchSize` or `batchWindow` is out of range.
    Batch,
    /// Probes are disabled, or the interval is invalid.
    Probe,
    /// The path of a ticket request has no route that accepts tickets.
    Ticket,
    Unauthorized,
    /// The issuer's keys are not available.
    Keys,
    /// The authentication service is not available.
    ForwardAuth,
    /// The fields that authenticate a request are too long.
    Credentials,
    Forbidden,
    Origin,
    ProcessLimit,
    RouteLimit,
    /// Too many WebSockets have not authenticated yet.
    UnauthenticatedLimit,
    Draining,
    /// Too little memory for another stream.
    Memory,
    /// The connection could not be taken from the proxy, or no writer accepted it.
    Internal,
}

impl Reason {
    /// Whether it is not known who the request is from: the same request may be accepted later.
    pub(super) fn is_unverified(self) -> bool {
        matches!(self, Self::Keys | Self::ForwardAuth)
    }

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Disguised => "disguised",
            Self::Method => "method",
            Self::Body => "body",
            Self::NotAcceptable => "not-acceptable",
            Self::Handshake => "handshake",
            Self::Parameter => "parameter",
            Self::Position => "position",
            Self::Batch => "batch",
            Self::Probe => "probe",
            Self::Ticket => "ticket",
            Self::Unauthorized => "unauthorized",
            Self::Keys => "keys",
            Self::ForwardAuth => "forward-auth",
            Self::Credentials => "credentials",
            Self::Forbidden => "forbidden",
            Self::Origin => "origin",
            Self::ProcessLimit => "process-limit",
            Self::RouteLimit => "route-limit",
            Self::UnauthenticatedLimit => "unauthenticated-limit",
            Self::Draining => "draining",
            Self::Memory => "memory",
            Self::Internal => "internal",
        }
    }
}

/// A refused stream request.
#[derive(Debug)]
pub(super) struct Refusal {
    reason: Reason,
    // Boxed to keep results small: a refusal is rare.
    problem: Box<Problem>,
}

impl Refusal {
    pub(super) fn new(reason: Reason, problem: Problem) -> Self {
        Self { reason, problem: Box::new(problem) }
    }

    pub(super) fn reason(&self) -> Reason {
        self.reason
    }

    pub(super) fn into_problem(self) -> Problem {
        *self.problem
    }
}
