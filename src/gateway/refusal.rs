//! Why a request for a stream is refused: a bounded reason for metrics and the answer for the client.

use crate::problem::Problem;

/// The `reason` of `streams_rejected_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    /// A path that only means a stream once it is normalized.
    Disguised,
    Method,
    /// A stream request with a body.
    Body,
    NotAcceptable,
    /// A WebSocket handshake that is missing or malformed.
    Handshake,
    /// A name that is nearly one of a parameter, or a value in the path that is too long.
    Parameter,
    /// `since` is no cursor.
    Position,
    /// `batchSize` or `batchWindow` is out of its bounds.
    Batch,
    /// `probe` where the configuration has none, or with no interval.
    Probe,
    /// A ticket is asked for a path that takes none.
    Ticket,
    Unauthorized,
    /// The issuer's keys are not available.
    Keys,
    Forbidden,
    Origin,
    ProcessLimit,
    RouteLimit,
    /// Too many WebSockets wait for their token.
    UnauthenticatedLimit,
    Draining,
    /// There is too little memory for another stream.
    Memory,
    /// The connection could not be taken from the proxy, or no writer took it.
    Internal,
}

impl Reason {
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
    // Boxed: it travels through many results, and is rare.
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
