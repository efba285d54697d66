//! What holds for every line of the table, and what a new line needs elsewhere.

use super::*;
use crate::testing::{event, route};
use reading::Record;

/// Reads `stream` in pieces of `piece` bytes; invisible records are omitted.
fn read(transport: Transport, stream: &[u8], piece: usize) -> Vec<Record> {
    let mut reader = transport.row().reader().expect("a framing has a reader");
    let mut records = Vec::new();
    for bytes in stream.chunks(piece) {
        reader.feed(bytes, &mut |record| records.push(record)).unwrap();
    }
    records.retain(|record| record.data.is_some());
    records
}

#[test]
fn every_framing_reads_what_it_writes_at_any_cut() {
    let event = event("o", 0, 4, &[("k", r#"] , \"[{"#)]);
    let gap = r#"{"type":"gap","cursor":"o:0:9"}"#;
    for transport in Transport::framings() {
        let form = route("/x").form(transport);
        let control = Control { kind: "gap", data: gap.into(), cursor: Some(b"o:0:9"), number: 1, unix_ms: 0 };
        let records = [form.event(&event, b"o:0:4"), form.control(control), form.event(&event, b"o:0:4")].concat();
        let heartbeat = form.keep_alive(&mut || None).unwrap_or_default();
        let goodbye = form.goodbye(&Goodbye { retry_ms: Some(5), close: None });
        let first = usize::from(form.separator().is_some());
        let stream = [form.start(), &records[first..], &heartbeat, &goodbye].concat();
        let envelope = std::str::from_utf8(&event.envelope).unwrap();
        for piece in 1..=stream.len() {
            let texts: Vec<_> = read(transport, &stream, piece).into_iter().filter_map(|record| record.data).collect();
            assert_eq!(texts, [envelope, gap, envelope], "{transport:?} in pieces of {piece} bytes");
        }
    }
}

#[test]
fn names_suit_metrics_and_requests() {
    let is_of =
        |name: &str, other: u8| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == other);
    for transport in Transport::ALL {
        let row = transport.row();
        assert!(is_of(row.name(), b'-'), "{transport:?}: name() has characters other than a-z and `-`");
        assert!(is_of(row.metric_name(), b'_'), "{transport:?}: metric_name() has characters other than a-z and `_`");
        let same =
            |other: &&Transport| other.row().name() == row.name() || other.row().metric_name() == row.metric_name();
        assert_eq!(Transport::ALL.iter().filter(same).count(), 1, "{transport:?} has the name of another transport");
    }
}

/// Users choose a transport by these pages.
#[test]
fn every_transport_is_documented() {
    let page = |path: &str| std::fs::read_to_string(format!("{}/{path}", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let paths = ["docs/protocol.md", "conf/sidestream.yaml", "docs/operations.md", "k8s/grafana-dashboard.json"];
    let [protocol, example, operations, dashboard] = paths.map(|path| (path, page(path)));
    let expect =
        |(path, text): &(&str, String), part: &str| assert!(text.contains(part), "{path} does not have {part}");
    for transport in Transport::ALL {
        let row = transport.row();
        expect(&protocol, &format!("| `{}` |", row.name()));
        row.media_types().iter().for_each(|media_type| expect(&protocol, &format!("`{media_type}`")));
        expect(&example, row.name());
        [&operations, &dashboard]
            .into_iter()
            .for_each(|page| expect(page, &format!("notifications_{}_", row.metric_name())));
    }
}
