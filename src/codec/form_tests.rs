//! The bytes of events in every form.

use super::*;
use crate::testing::event;

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
    let names: std::collections::HashSet<_> = forms().map(|form| form.key(7)).collect();
    assert_eq!(names.len(), 16 * Transport::ALL.len());
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
    assert_eq!(show(Sse, Envelope, Field::None, false, "orders:0:4"), format!("id: orders:0:4\ndata: {envelope}\n\n"));
    assert_eq!(
        show(Sse, Payload, Field::Type, false, "orders:0:4~AQ"),
        "id: orders:0:4~AQ\nevent: test\ndata: {\"n\":4}\n\n"
    );
    assert_eq!(show(Sse, Payload, Field::None, true, "orders:0:4"), "1e\r\nid: orders:0:4\ndata: {\"n\":4}\n\n\r\n");
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
