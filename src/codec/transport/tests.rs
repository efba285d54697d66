//! What holds for every line of the table, and what a new line needs elsewhere.

use super::*;

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
    let paths =
        ["docs/protocol.md", "conf/sidestream.yaml", "docs/operations.md", "k8s/chart/files/grafana-dashboard.json"];
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
