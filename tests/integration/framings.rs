//! Framings of JSON on the wire, beyond the cases of `tests/protocol/framings.yaml`.

use serde_json::Value;

use crate::support::fixture::Fixture;

/// With and without HTTP chunks, the body is a JSON text if the server ends the stream.
#[test]
fn an_array_is_closed_when_the_server_ends_it() {
    let mut fixture = Fixture::standard();
    let array = fixture.get("/framed?framing=json-array");
    let empty = fixture.get("/orders/none/any?framing=json-array").open();
    let streams = [array.open(), array.clone().http10().open(), empty];
    let id = fixture.broker.order("o1");
    fixture.sidecar.await_metric("notifications_json_array_events_sent_total", 2.0);
    fixture.sidecar.signal("TERM");
    let ids = streams.map(|(head, mut body)| {
        assert_eq!(head.header("content-type"), Some("application/json"));
        let text: Vec<u8> = std::iter::from_fn(|| body.next().expect("a whole body")).flatten().collect();
        let elements: Vec<Value> = serde_json::from_slice(&text).expect("a JSON array");
        elements.iter().map(|event| event["id"].as_str().expect("an event").to_owned()).collect::<Vec<_>>()
    });
    assert_eq!(ids, [vec![id.clone()], vec![id], vec![]]);
    assert_eq!(fixture.sidecar.wait().code(), Some(0));
}
