//! The bytes of events in every form.

use super::*;
use crate::testing::event;

fn forms() -> impl Iterator<Item = Form> {
    Transport::ALL.into_iter().flat_map(|transport| {
        (0..8).map(move |bits| Form {
            transport,
            data: if bits & 1 == 0 { DataForm::Envelope } else { DataForm::Payload },
            event_field: if bits & 2 == 0 { EventField::None } else { EventField::Type },
            frames: if bits & 4 == 0 { WebSocketFrames::Text } else { WebSocketFrames::Binary },
        })
    })
}

#[test]
fn every_form_has_a_key_of_its_own() {
    let keys: std::collections::HashSet<_> = forms().map(|form| form.key(7)).collect();
    assert_eq!(keys.len(), 8 * Transport::ALL.len());
    for form in forms() {
        assert_eq!(Form::of(form.key(7)), form);
        assert_eq!(form.key(7).stream_id(), 7);
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
        let form = Form { transport, data: DataForm::Payload, event_field, frames };
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
    let show = |transport, data, event_field, cursor: &str| {
        let form = Form { transport, data, event_field, frames: WebSocketFrames::Text };
        String::from_utf8(form.event(&event, cursor.as_bytes()).to_vec()).unwrap()
    };
    use {DataForm::*, EventField as Field, Transport::*};
    let envelope = r#"{"id":"orders:0:4","ts":4,"type":"test","orderId":"order-1","data":{"n":4}}"#;
    assert_eq!(show(Sse, Envelope, Field::None, "orders:0:4"), format!("id: orders:0:4\ndata: {envelope}\n\n"));
    assert_eq!(show(Sse, Payload, Field::Type, "orders:0:4~AQ"), "id: orders:0:4~AQ\nevent: test\ndata: {\"n\":4}\n\n");
    assert_eq!(show(Sse, Payload, Field::None, "orders:0:4"), "id: orders:0:4\ndata: {\"n\":4}\n\n");
    assert_eq!(show(Ndjson, Envelope, Field::None, "orders:0:4"), format!("{envelope}\n"));
    assert_eq!(
        show(Ndjson, Envelope, Field::None, "orders:0:4~AQ"),
        "{\"id\":\"orders:0:4\",\"cursor\":\"orders:0:4~AQ\",\"ts\":4,\"type\":\"test\",\"orderId\":\"order-1\",\"data\":{\"n\":4}}\n"
    );
    assert_eq!(show(Ndjson, Payload, Field::None, "orders:0:4"), "{\"n\":4}\n");
    let frames = WebSocketFrames::Text;
    let form = Form { transport: WebSocket, data: Payload, event_field: Field::None, frames };
    let text = r#"{"id":"orders:0:4","type":"event","timestamp":"1970-01-01T00:00:00.004Z","cursor":"orders:0:4~AQ","data":{"n":4}}"#;
    let message = form.event(&event, b"orders:0:4~AQ");
    assert_eq!(&message[..], [&[0x81, text.len() as u8], text.as_bytes()].concat());
    let binary = Form { frames: WebSocketFrames::Binary, ..form };
    assert_eq!(&binary.event(&event, b"orders:0:4")[..], b"\x82\x07{\"n\":4}");
}

/// The golden bytes of docs/protocol.md.
#[test]
fn golden_bytes_of_framings() {
    // If this does not compile, a transport has no golden bytes: add them here, and to docs/protocol.md.
    let _ = Transport::ALL.map(|transport| match transport {
        Transport::Sse | Transport::Ndjson | Transport::WebSocket => "in golden_bytes_of_an_event",
        Transport::Length | Transport::JsonSeq | Transport::JsonArray => "below",
    });
    let event = event("orders", 0, 4, &[]);
    let form = |transport, data| Form { transport, data, event_field: EventField::None, frames: WebSocketFrames::Text };
    let gap = || Control { kind: "gap", data: b"{}".to_vec(), cursor: None, number: 1, unix_ms: 0 };
    let goodbye = Goodbye { retry_ms: Some(1), close: None };
    let envelope = r#"{"id":"orders:0:4","ts":4,"type":"test","data":{"n":4}}"#;
    let cursor = &b"orders:0:4"[..];
    let silent = |form: Form| form.keep_alive(&mut || panic!("it carries no cursor"));

    let length = form(Transport::Length, DataForm::Envelope);
    assert_eq!(length.event(&event, cursor), format!("55\n{envelope}"));
    assert_eq!(form(Transport::Length, DataForm::Payload).event(&event, cursor), "7\n{\"n\":4}");
    assert_eq!(length.control(gap()), "2\n{}");
    assert_eq!((silent(length), length.goodbye(&goodbye)), (None, vec![]));

    let json_seq = form(Transport::JsonSeq, DataForm::Envelope);
    assert_eq!(json_seq.event(&event, cursor), format!("\x1e{envelope}\n"));
    assert_eq!(json_seq.control(gap()), "\x1e{}\n");
    assert_eq!((silent(json_seq), json_seq.goodbye(&goodbye)), (Some("\x1e".into()), vec![]));

    let array = form(Transport::JsonArray, DataForm::Envelope);
    assert_eq!((array.start(), array.separator()), (&b"[\n"[..], NonZeroU8::new(b',')));
    assert_eq!(array.event(&event, cursor), format!(",{envelope}\n"));
    assert_eq!(array.control(gap()), ",{}\n");
    assert_eq!((silent(array), array.goodbye(&goodbye)), (Some("\n".into()), b"]\n".to_vec()));
}
