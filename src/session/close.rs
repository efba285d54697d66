//! The reasons why streams end, with their metric labels, WebSocket close codes, and whether an SSE client receives a
//! reconnect delay.

use crate::codec::websocket::Violation;

/// Why a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// The peer closed its side (FIN), or a WebSocket client sent a close frame.
    ClientClosed,
    /// The connection broke: RST, or no acknowledgement within `limits.tcp_user_timeout`.
    ClientLost,
    /// No pong within its deadline.
    PongTimeout,
    /// The queue was full and the route's policy is to disconnect, the client does not read its responses, or it has
    /// read nothing for the route's `stall_timeout`.
    SlowConsumer,
    TokenExpired,
    /// A WebSocket that was opened without a token did not authenticate in time.
    AuthenticationTimeout,
    /// The first message of a WebSocket that was opened without a token did not contain a valid token.
    AuthenticationFailed,
    /// The access of who opened it was revoked.
    Revoked,
    /// Who opened it could not be verified again in time.
    Unverified,
    /// A WebSocket authenticated when its route had reached `max_streams`.
    RouteLimit,
    /// A WebSocket authenticated, and its user has as many streams as a quota allows.
    Quota,
    /// The process is shutting down.
    Drain,
    /// The configuration changed, and the stream's route or access no longer exists.
    Reload,
    /// A WebSocket client broke the protocol.
    Protocol(Violation),
    /// A WebSocket client sent a binary message.
    BinaryMessage,
    /// A WebSocket client exceeded the rate of commands.
    CommandRate,
    /// A WebSocket client exceeded the rate of frames.
    FrameRate,
    /// A client of an HTTP stream kept sending after its request.
    UnexpectedData,
    /// A bug in sidestream.
    InternalError,
    /// The requested resume position is not available; the stream never started.
    ReplayNotPossible,
    /// The stream had to end before it was known whether the client can resume; it never started.
    NotReady,
}

/// The consequences of a reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closing {
    /// The metric label.
    pub label: &'static str,
    /// The WebSocket close code (RFC 6455 section 7.4.1) and reason; `None` if the client is gone.
    pub websocket: Option<(u16, &'static str)>,
    /// Whether an SSE client receives a reconnect delay.
    pub retry: bool,
}

impl CloseReason {
    pub fn closing(self) -> Closing {
        let (label, websocket, retry) = match self {
            Self::ClientClosed => ("client-closed", Some((1000, "")), false),
            Self::ClientLost => ("client-lost", None, false),
            Self::PongTimeout => ("pong-timeout", Some((1001, "no pong in time")), false),
            Self::SlowConsumer => ("slow-consumer", Some((1013, "too slow: reconnect and resume")), true),
            Self::TokenExpired => ("token-expired", Some((1008, "token expired")), true),
            Self::AuthenticationTimeout => ("authentication-timeout", Some((1008, "no token in time")), false),
            Self::AuthenticationFailed => ("authentication-failed", Some((1008, "the token is not accepted")), false),
            Self::Revoked => ("revoked", Some((1008, "access was revoked")), true),
            Self::Unverified => ("unverified", Some((1013, "access cannot be verified: reconnect later")), true),
            Self::RouteLimit => ("route-limit", Some((1013, "too many streams: reconnect later")), false),
            Self::Quota => ("quota", Some((1013, "the quota is exceeded: reconnect later")), false),
            Self::Drain => ("drain", Some((1012, "restarting: reconnect and resume")), true),
            Self::Reload => ("reload", Some((1012, "configuration changed: reconnect and resume")), true),
            Self::Protocol(Violation::Protocol(what)) => ("protocol-error", Some((1002, what)), false),
            Self::Protocol(Violation::NotUtf8) => ("invalid-text", Some((1007, "text is not UTF-8")), false),
            Self::Protocol(Violation::TooBig) => ("message-too-big", Some((1009, "message is too big")), false),
            Self::BinaryMessage => ("binary-message", Some((1003, "only text is understood")), false),
            Self::CommandRate => ("command-rate", Some((1008, "too many commands")), false),
            Self::FrameRate => ("frame-rate", Some((1008, "too many frames")), false),
            Self::UnexpectedData => ("unexpected-data", None, false),
            Self::InternalError => ("internal-error", Some((1011, "internal error: reconnect and resume")), true),
            Self::ReplayNotPossible => ("replay-not-possible", None, false),
            Self::NotReady => ("not-ready", Some((1013, "too early: reconnect and resume")), true),
        };
        Closing { label, websocket, retry }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::websocket::CLOSE_REASON_MAX;

    #[test]
    fn reasons_fit_a_close_frame() {
        let all = [
            CloseReason::ClientClosed,
            CloseReason::PongTimeout,
            CloseReason::SlowConsumer,
            CloseReason::TokenExpired,
            CloseReason::AuthenticationTimeout,
            CloseReason::AuthenticationFailed,
            CloseReason::Revoked,
            CloseReason::Unverified,
            CloseReason::RouteLimit,
            CloseReason::Quota,
            CloseReason::Drain,
            CloseReason::Reload,
            CloseReason::Protocol(Violation::TooBig),
            CloseReason::BinaryMessage,
            CloseReason::CommandRate,
            CloseReason::FrameRate,
        ];
        assert!(
            all.iter().all(|reason| reason.closing().websocket.is_some_and(|(_, text)| text.len() <= CLOSE_REASON_MAX))
        );
    }
}
