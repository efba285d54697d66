//! Messages of WebSocket clients: decodes frames to commands, and sends exactly one response per command.

mod status;
mod subscribe;

use std::time::Instant;

use serde::Serialize;
use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};

use crate::codec::json;
use crate::codec::websocket::{self, Decoder, Message, Opcode, Step};
use crate::route::{StreamRoute, WebSocketLimits};

use super::allowance::Allowance;
use super::message::{Command, parse, quoted};
use super::token::Verification;
use super::{CloseReason, Now, Session, WriterContext};

/// Frames of one WebSocket that are decoded per turn.
pub(super) const FRAMES_PER_TURN: usize = 64;

/// The reading side of a WebSocket.
#[derive(Debug)]
pub(super) struct WebSocketSide {
    decoder: Decoder,
    pub(super) last_read: Instant,
    pub(super) pong_due: Option<Instant>,
    /// Whether decoding stopped at [`FRAMES_PER_TURN`], so that complete frames may be left.
    has_more: bool,
    /// Later messages wait for it.
    pub(super) verification: Option<Verification>,
    commands: Allowance,
    frames: Allowance,
}

/// Why a message was rejected; the client received an error. The label of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Not JSON, or not a command.
    Malformed,
    UnknownCommand,
    /// A resource that does not exist or is not accessible, or a position that is not available.
    Subscription,
    /// A token that is invalid, or that must not replace the current one.
    Token,
    /// The token cannot be verified now.
    Unavailable,
    /// A quota of commands is exceeded.
    Quota,
}

impl Refused {
    pub fn label(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::UnknownCommand => "unknown-command",
            Self::Subscription => "subscription",
            Self::Token => "token",
            Self::Unavailable => "unavailable",
            Self::Quota => "quota",
        }
    }
}

/// The result is raw JSON: the numbers of an event are not re-encoded.
pub(super) type Answer = Result<Box<RawValue>, (Refused, String)>;

/// The `data` of a response.
#[derive(Serialize)]
struct Response<'a> {
    command: Option<&'a str>,
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
}

impl WebSocketSide {
    pub(super) fn new(route: &StreamRoute, now: Now) -> Self {
        Self {
            decoder: Decoder::default(),
            last_read: now.instant,
            pong_due: None,
            has_more: false,
            verification: None,
            commands: Allowance::full(route.websocket.commands_per_second, now.instant),
            frames: Allowance::full(route.websocket.frames_per_second, now.instant),
        }
    }

    /// Messages that waited meanwhile may all be taken at once: the client sent them in time.
    pub(super) fn end_verification(&mut self, limits: WebSocketLimits, now: Now) -> Option<Verification> {
        let verification = self.verification.take()?;
        self.commands.extend(limits.commands_per_second, verification.since, now.instant);
        self.frames.extend(limits.frames_per_second, verification.since, now.instant);
        Some(verification)
    }
}

impl Session {
    pub(super) fn read_messages(&mut self, bytes: &[u8], context: &mut WriterContext<'_>) -> Vec<Refused> {
        if let Some(side) = &mut self.websocket {
            side.last_read = context.now.instant;
            side.pong_due = None;
            side.decoder.feed(bytes);
        }
        self.read_on(context)
    }

    /// Whether complete frames may be left that were not processed: [`Self::read_on`] continues with them.
    pub fn has_frames(&self) -> bool {
        let has_more = || self.websocket.as_ref().is_some_and(|side| side.has_more);
        self.closed.is_none() && self.verification().map_or_else(has_more, |verification| verification.has_ended())
    }

    /// Processes received frames, up to [`FRAMES_PER_TURN`]. Messages that arrive before the response is decided, or
    /// while a token is verified, wait, within the limit of one message.
    pub fn read_on(&mut self, context: &mut WriterContext<'_>) -> Vec<Refused> {
        let mut refused: Vec<_> = self.verified(context).into_iter().collect();
        if self.is_unanswered() || self.verification().is_some() {
            let most = websocket::unread_max(self.request.route.websocket.message_bytes);
            if self.websocket.as_ref().is_some_and(|side| side.decoder.unread() > most) {
                self.close(CloseReason::Protocol(websocket::Violation::TooBig));
            }
            return refused;
        }
        let limits = self.request.route.websocket;
        for _ in 0..FRAMES_PER_TURN {
            let is_reading = self.closed.is_none() && self.verification().is_none();
            let Some(side) = self.websocket.as_mut().filter(|_| is_reading) else { return refused };
            let step = side.decoder.next(limits.message_bytes);
            side.has_more = step != Ok(Step::Incomplete);
            match step {
                Ok(Step::Incomplete) => {
                    side.commands.settle(limits.commands_per_second);
                    side.frames.settle(limits.frames_per_second);
                    return refused;
                }
                Err(violation) => self.close(CloseReason::Protocol(violation)),
                Ok(_) if !side.frames.take(limits.frames_per_second, context.now.instant) => {
                    self.close(CloseReason::FrameRate);
                }
                Ok(Step::Fragment) => {}
                Ok(Step::Message(message)) => refused.extend(self.take(message, context)),
            }
        }
        refused
    }

    fn take(&mut self, message: Message, context: &mut WriterContext<'_>) -> Option<Refused> {
        match message {
            Message::Text(text) if self.request.is_unauthenticated() => return self.first_message(&text, context),
            Message::Text(text) => return self.command(&text, context),
            Message::Ping(payload) => self.answer_with(websocket::frame(Opcode::Pong, &payload)),
            Message::Pong => {}
            Message::Binary => self.close(CloseReason::BinaryMessage),
            Message::Close(code) => {
                self.queue.clear_unsent();
                self.answer_with(
                    code.map_or_else(|| websocket::frame(Opcode::Close, b""), |code| websocket::close_frame(code, "")),
                );
                self.closed.get_or_insert(CloseReason::ClientClosed);
            }
        }
        None
    }

    fn answer_with(&mut self, frame: Vec<u8>) {
        if !self.push_control(frame.into()) {
            self.close(CloseReason::SlowConsumer);
        }
    }

    fn command(&mut self, text: &str, context: &mut WriterContext<'_>) -> Option<Refused> {
        let per_second = self.request.route.websocket.commands_per_second;
        if self.websocket.as_mut().is_some_and(|side| !side.commands.take(per_second, context.now.instant)) {
            self.close(CloseReason::CommandRate);
            return None;
        }
        let (id, command) = parse(text);
        let name = command.as_ref().ok().and_then(|command| command.command.clone());
        let subscriptions = self.subscriptions.len();
        let allowed = command.map_err(|why| (Refused::Malformed, why));
        let allowed = allowed.and_then(|command| self.within_quotas(&command, context.now).map(|()| command));
        let answer = match allowed {
            Ok(command) if command.is_authenticate() => return self.authenticate(id, &command, context),
            Ok(command) => self.carry_out(&command, context),
            Err(refused) => Err(refused),
        };
        // The response precedes the events of the subscription.
        self.respond(&id, name.as_deref(), &answer, context.now);
        if self.subscriptions.len() > subscriptions && self.closed.is_none() {
            self.start_last(context);
        }
        answer.err().map(|(refused, _)| refused)
    }

    /// Queues the response to a command.
    pub(super) fn respond(&mut self, id: &Value, name: Option<&str>, answer: &Answer, now: Now) {
        let command = name.map(quoted);
        let command = command.as_deref();
        let data = match answer {
            Ok(result) => Response { command, status: "ok", result: Some(result), error: None },
            Err((_, why)) => Response { command, status: "error", result: None, error: Some(why) },
        };
        self.messages += 1;
        let data = json::text(&data);
        let response = json::websocket_message(self.messages, "response", Some(id), now.unix_ms, &data);
        self.answer_with(websocket::frame(Opcode::Text, &response));
    }

    fn carry_out(&mut self, command: &Command, context: &mut WriterContext<'_>) -> Answer {
        match command.command.as_deref() {
            Some("ping") => result(&"pong"),
            Some("get-status") => self.status(command, context),
            Some("subscribe") => self.subscribe(command, context),
            Some("unsubscribe") => self.unsubscribe(command, context),
            Some("credit") => self.add_credit(command),
            Some(other) => {
                let known = "subscribe, unsubscribe, get-status, ping, authenticate, credit";
                Err((Refused::UnknownCommand, format!("unknown command `{}`; there are {known}", quoted(other))))
            }
            None => Err((Refused::Malformed, "no `command`".into())),
        }
    }

    /// A quota counts all sockets of one user: exceeding it ends none of them. `credit` is exempt: a client that lost
    /// credit would wait for events that never come.
    fn within_quotas(&self, command: &Command, now: Now) -> Result<(), (Refused, String)> {
        if command.command.as_deref() == Some("credit") {
            return Ok(());
        }
        self.request.take_command(now.instant).map_err(|(quota, wait)| {
            let ms = wait.as_millis() + 1;
            (Refused::Quota, format!("too many commands (quota `{quota}`); the next one is allowed in {ms} ms"))
        })
    }
}

pub(super) fn result(value: &impl Serialize) -> Answer {
    to_raw_value(value).map_err(internal)
}

/// Unreachable: envelopes are valid JSON, and results have string keys.
fn internal(error: serde_json::Error) -> (Refused, String) {
    (Refused::Malformed, format!("the result can't be shown: {error}"))
}
