//! WebSocket (RFC 6455): one message for each event, response and control record.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::reading::Reader;
use super::{ClientBytes, Control, Goodbye, Opening, Row};
use crate::codec::websocket::{Opcode, close_frame, frame};
use crate::codec::{EventField, Form, WebSocketFrames, json};
use crate::event::Event;

pub(super) struct WebSocket;

impl Row for WebSocket {
    fn name(&self) -> &'static str {
        "ws"
    }

    fn media_types(&self) -> &'static [&'static str] {
        &[]
    }

    fn opening(&self) -> Opening {
        Opening::Upgrade
    }

    fn client_bytes(&self) -> ClientBytes {
        ClientBytes::Commands
    }

    fn form(&self, form: Form) -> Form {
        Form { event_field: EventField::None, ..form }
    }

    fn event(&self, event: &Event, cursor: &[u8], form: Form) -> Vec<u8> {
        match form.frames {
            WebSocketFrames::Text => json::websocket_event(event, cursor, form.data),
            WebSocketFrames::Binary => frame(Opcode::Binary, &payload(event)),
        }
    }

    fn control(&self, record: Control<'_>) -> Vec<u8> {
        frame(Opcode::Text, &json::websocket_message(record.number, "event", None, record.unix_ms, &record.data))
    }

    fn keep_alive(&self, _cursor: &mut dyn FnMut() -> Option<String>) -> Option<Vec<u8>> {
        Some(frame(Opcode::Ping, b""))
    }

    fn goodbye(&self, goodbye: &Goodbye) -> Vec<u8> {
        goodbye.close.map_or_else(Vec::new, |(code, reason)| close_frame(code, reason))
    }

    fn reader(&self) -> Option<Box<dyn Reader>> {
        None
    }
}

/// The bytes of the payload: decoded base64, or else the JSON of `data`.
fn payload(event: &Event) -> Cow<'_, [u8]> {
    let base64 = event.data().strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\""));
    let bytes = base64.filter(|_| event.is_base64).and_then(|base64| STANDARD.decode(base64).ok());
    bytes.map_or_else(|| event.data().into(), Cow::Owned)
}
