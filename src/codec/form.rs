//! The form of a connection's bytes: its transport, and the options of its route that affect the encoding of events.

use std::num::NonZeroU8;

use bytes::Bytes;

use super::transport::{Control, Goodbye, Transport};
use crate::event::{Event, FrameKey};

/// The part of an event that is sent: the envelope, or only its `data`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DataForm {
    Envelope,
    Payload,
}

/// The SSE field `event`: absent, so that a page's `onmessage` fires, or the event's type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EventField {
    None,
    Type,
}

/// The messages by which a WebSocket sends an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WebSocketFrames {
    /// A JSON text message with the event's id and cursor.
    Text,
    /// A binary message that consists of the payload's bytes.
    Binary,
}

/// The form of events on one connection. Connections with the same form share encodings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Form {
    pub transport: Transport,
    pub data: DataForm,
    pub event_field: EventField,
    pub frames: WebSocketFrames,
}

/// The bits of each part in the key of a form.
const DATA_BIT: u32 = 4;
const EVENT_FIELD_BIT: u32 = 5;
const FRAMES_BIT: u32 = 6;

const _: () =
    assert!(Transport::ALL.len() <= 1 << DATA_BIT, "a form's key has room for 16 transports: widen it before DATA_BIT");

impl Form {
    /// This form without the options that its transport ignores.
    #[must_use]
    pub fn relevant(self) -> Self {
        self.transport.row().form(self)
    }

    /// This form for a transport that sends JSON texts in a response body, and nothing else.
    #[must_use]
    pub(super) fn of_json_text(self) -> Self {
        Self { event_field: EventField::None, frames: WebSocketFrames::Text, ..self }
    }

    /// The key of this form's encoding on a stream: the stream matters because its cursor is part of the bytes.
    pub fn key(self, stream_id: u16) -> FrameKey {
        let form = self.transport as u8
            | (self.data as u8) << DATA_BIT
            | (self.event_field as u8) << EVENT_FIELD_BIT
            | (self.frames as u8) << FRAMES_BIT;
        FrameKey::new(stream_id, form)
    }

    /// The form of a key.
    pub fn of(key: FrameKey) -> Self {
        let bit = |n: u32| key.form() >> n & 1 == 1;
        let transport = usize::from(key.form() & ((1 << DATA_BIT) - 1));
        Self {
            transport: Transport::ALL[transport.min(Transport::ALL.len() - 1)],
            data: if bit(DATA_BIT) { DataForm::Payload } else { DataForm::Envelope },
            event_field: if bit(EVENT_FIELD_BIT) { EventField::Type } else { EventField::None },
            frames: if bit(FRAMES_BIT) { WebSocketFrames::Binary } else { WebSocketFrames::Text },
        }
    }

    /// Encodes an event; `cursor` is the client's position after it.
    pub fn event(self, event: &Event, cursor: &[u8]) -> Bytes {
        self.separated(self.transport.row().event(event, cursor, self))
    }

    /// A control record.
    pub fn control(self, record: Control<'_>) -> Bytes {
        self.separated(self.transport.row().control(record))
    }

    /// The first byte of every record except for the first one of a stream, if the transport has separators.
    pub fn separator(self) -> Option<NonZeroU8> {
        self.transport.row().separator()
    }

    /// The bytes directly after the response head.
    pub fn start(self) -> &'static [u8] {
        self.transport.row().start()
    }

    /// The bytes before the first record; empty if the transport has none.
    pub fn priming(self, retry_ms: u64, cursor: Option<&[u8]>) -> Bytes {
        self.transport.row().priming(retry_ms, cursor).into()
    }

    /// A heartbeat that is invisible to scripts, if the transport has one. `cursor` is called only if the heartbeat
    /// contains the client's position.
    pub fn keep_alive(self, cursor: &mut dyn FnMut() -> Option<String>) -> Option<Bytes> {
        self.transport.row().keep_alive(cursor).map(Bytes::from)
    }

    /// The closing bytes of the transport.
    pub fn goodbye(self, goodbye: &Goodbye) -> Vec<u8> {
        self.transport.row().goodbye(goodbye)
    }

    /// A record after its separator.
    fn separated(self, mut record: Vec<u8>) -> Bytes {
        if let Some(separator) = self.separator() {
            record.insert(0, separator.get());
        }
        record.into()
    }
}

#[cfg(test)]
#[path = "form_tests.rs"]
mod tests;
