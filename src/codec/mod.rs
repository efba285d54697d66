//! Bytes on the wire. Codecs turn events, losses and heartbeats into bytes and client frames into messages; they keep
//! no connection state (but for the WebSocket decoder's unfinished frame) and decide nothing.
//!
//! Frames of all transports concatenate: each is complete, down to its HTTP chunk, so that whatever is ready goes out
//! in one write, and one encoding serves every connection that has the same [`Form`].

mod encodings;
pub mod http;
pub mod json;
pub mod ndjson;
pub mod problem;
pub mod sse;
pub mod websocket;

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;

pub use encodings::Encodings;

use crate::event::{Event, FrameKey};
use crate::route::{DataForm, EventField, Stream, StreamRoute, Transport, WebSocketFrames};

/// How events look on one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Form {
    pub transport: Transport,
    pub data: DataForm,
    /// SSE only.
    pub event_field: EventField,
    /// WebSocket only.
    pub frames: WebSocketFrames,
    /// Each frame is an HTTP/1.1 chunk (RFC 9112 section 7.1).
    pub chunked: bool,
}

impl Form {
    /// How a route's events look over a transport. `http11`: the answer's body may have chunks.
    pub fn new(route: &StreamRoute, transport: Transport, http11: bool) -> Self {
        Self {
            transport,
            data: route.data,
            event_field: route.event_field,
            frames: route.frames,
            chunked: http11 && transport != Transport::WebSocket,
        }
    }

    /// The name of this encoding on this stream: the stream counts since its cursor is part of the bytes.
    pub fn key(self, stream: &Stream) -> FrameKey {
        let form = self.transport as u8
            | (self.data as u8) << 2
            | (self.event_field as u8) << 3
            | u8::from(self.chunked) << 4
            | (self.frames as u8) << 5;
        FrameKey::new(stream.id, form)
    }

    /// The form that a name stands for.
    pub fn of(key: FrameKey) -> Self {
        let bit = |n: u32| key.form() >> n & 1 == 1;
        Self {
            transport: Transport::ALL[usize::from(key.form() & 3).min(Transport::ALL.len() - 1)],
            data: if bit(2) { DataForm::Payload } else { DataForm::Envelope },
            event_field: if bit(3) { EventField::Type } else { EventField::None },
            chunked: bit(4),
            frames: if bit(5) { WebSocketFrames::Binary } else { WebSocketFrames::Text },
        }
    }

    /// An event; `cursor` is the client's position after it.
    pub fn event(self, event: &Event, cursor: &[u8]) -> Bytes {
        match self.transport {
            Transport::Sse => self.framed(sse::event(event, cursor, self.data, self.event_field)),
            Transport::Ndjson => self.framed(ndjson::event(event, cursor, self.data)),
            Transport::WebSocket => match self.frames {
                WebSocketFrames::Text => json::websocket_event(event, cursor, self.data).into(),
                WebSocketFrames::Binary => websocket::frame(websocket::Opcode::Binary, &payload(event)).into(),
            },
        }
    }

    /// Puts a piece of an SSE or NDJSON body into an HTTP chunk where the connection has chunks.
    pub fn framed(self, body: Vec<u8>) -> Bytes {
        if self.chunked { http::chunk(&body) } else { body }.into()
    }
}

/// The payload's own bytes: those that base64 stands for, or else the JSON of `data`.
fn payload(event: &Event) -> Cow<'_, [u8]> {
    let base64 = event.data().strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\""));
    let bytes = base64.filter(|_| event.is_base64).and_then(|base64| STANDARD.decode(base64).ok());
    bytes.map_or_else(|| event.data().into(), Cow::Owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{event, stream};

    fn forms() -> impl Iterator<Item = Form> {
        Transport::ALL.into_iter().flat_map(|transport| {
            (0..16).map(move |bits| Form {
                transport,
                data: if bits & 1 == 0 { DataForm::Envelope } else { DataForm::Payload },
                event_field: if bits & 2 == 0 { EventField::None } else { EventField::Type },
                chunked: bits & 4 != 0,
                frames: if bits & 8 == 0 { WebSocketFrames::Text } else { WebSocketFrames::Binary },
            })
        })
    }

    #[test]
    fn every_form_has_a_name_of_its_own() {
        let stream = stream(7, &["orders"]);
        let names: std::collections::HashSet<_> = forms().map(|form| form.key(&stream)).collect();
        assert_eq!(names.len(), 48);
        for form in forms() {
            assert_eq!(Form::of(form.key(&stream)), form);
            assert_eq!(form.key(&stream).stream_id(), stream.id);
        }
    }

    #[test]
    fn no_event_resembles_a_control_record() {
        let kind = |kind: &str, payload: &str| {
            let envelope = format!(r#"{{"id":"orders:0:4","ts":4,"type":"{kind}","data":{payload}}}"#);
            let payload = envelope.len() - 1 - payload.len()..envelope.len() - 1;
            Event {
                kind: kind.into(),
                envelope: envelope.into(),
                payload,
                ..std::sync::Arc::into_inner(event("orders", 0, 4, &[])).unwrap()
            }
        };
        let show = |transport, event: &Event| {
            let (event_field, frames) = (EventField::Type, WebSocketFrames::Text);
            let form = Form { transport, data: DataForm::Payload, event_field, frames, chunked: false };
            String::from_utf8(form.event(event, b"orders:0:4").to_vec()).unwrap()
        };
        for (theirs, sent) in [("gap", "gap_"), ("gap_", "gap__"), ("error", "error_"), ("paid", "paid")] {
            assert!(show(Transport::Sse, &kind(theirs, "1")).contains(&format!("event: {sent}\n")), "{theirs}");
        }
        let gap = r#"{"type":"gap"}"#;
        assert_eq!(show(Transport::Ndjson, &kind("x", gap)), format!(" {gap}\n"));
        assert_eq!(show(Transport::Ndjson, &kind("x", r#"{"n":1}"#)), "{\"n\":1}\n");
    }

    /// The golden bytes of docs/protocol.md.
    #[test]
    fn golden_bytes_of_an_event() {
        let event = event("orders", 0, 4, &[("orderId", "order-1")]);
        let show = |transport, data, event_field, chunked, cursor: &str| {
            let form = Form { transport, data, event_field, chunked, frames: WebSocketFrames::Text };
            String::from_utf8(form.event(&event, cursor.as_bytes()).to_vec()).unwrap()
        };
        use {DataForm::*, EventField as Field, Transport::*};
        let envelope = r#"{"id":"orders:0:4","ts":4,"type":"test","orderId":"order-1","data":{"n":4}}"#;
        assert_eq!(
            show(Sse, Envelope, Field::None, false, "orders:0:4"),
            format!("id: orders:0:4\ndata: {envelope}\n\n")
        );
        assert_eq!(
            show(Sse, Payload, Field::Type, false, "orders:0:4~AQ"),
            "id: orders:0:4~AQ\nevent: test\ndata: {\"n\":4}\n\n"
        );
        assert_eq!(
            show(Sse, Payload, Field::None, true, "orders:0:4"),
            "1e\r\nid: orders:0:4\ndata: {\"n\":4}\n\n\r\n"
        );
        assert_eq!(show(Ndjson, Envelope, Field::None, false, "orders:0:4"), format!("{envelope}\n"));
        assert_eq!(
            show(Ndjson, Envelope, Field::None, false, "orders:0:4~AQ"),
            "{\"id\":\"orders:0:4\",\"cursor\":\"orders:0:4~AQ\",\"ts\":4,\"type\":\"test\",\"orderId\":\"order-1\",\"data\":{\"n\":4}}\n"
        );
        assert_eq!(show(Ndjson, Payload, Field::None, false, "orders:0:4"), "{\"n\":4}\n");
        let frames = WebSocketFrames::Text;
        let form = Form { transport: WebSocket, data: Payload, event_field: Field::None, chunked: false, frames };
        let text = r#"{"id":"orders:0:4","type":"event","timestamp":"1970-01-01T00:00:00.004Z","cursor":"orders:0:4~AQ","data":{"n":4}}"#;
        let message = form.event(&event, b"orders:0:4~AQ");
        assert_eq!(&message[..], [&[0x81, text.len() as u8], text.as_bytes()].concat());
        let binary = Form { frames: WebSocketFrames::Binary, ..form };
        assert_eq!(&binary.event(&event, b"orders:0:4")[..], b"\x82\x07{\"n\":4}");
    }
}
