use proptest::prelude::*;

use super::*;
use crate::testing::route;

fn table(patterns: &[&str]) -> RouteTable {
    RouteTable::new(patterns.iter().map(|pattern| route(pattern).into()).collect()).unwrap()
}

/// The lookup's result as text: the pattern and its parameters, `upstream`, or `disguised`.
fn found(table: &RouteTable, path: &str) -> String {
    match table.find(path) {
        Found::Upstream => "upstream".into(),
        Found::Disguised => "disguised".into(),
        Found::Stream { route, params } => {
            params.iter().fold(route.pattern.to_string(), |text, (name, value)| format!("{text} {name}={value}"))
        }
    }
}

#[test]
fn finds_routes_and_their_parameters() {
    let table = table(&["/events", "/orders/{orderId}/events", "/a/{x}/{y}"]);
    let cases = [
        ("/events", "/events"),
        ("/orders/42/events", "/orders/{orderId}/events orderId=42"),
        ("/orders/a%20b/events", "/orders/{orderId}/events orderId=a b"),
        ("/orders/%61/events", "/orders/{orderId}/events orderId=a"),
        ("/orders/100%25/events", "/orders/{orderId}/events orderId=100%"),
        ("/orders/a;b/events", "/orders/{orderId}/events orderId=a;b"),
        ("/orders/.x/events", "/orders/{orderId}/events orderId=.x"),
        ("/orders/%C3%A4/events", "/orders/{orderId}/events orderId=ä"),
        ("/a/1/2", "/a/{x}/{y} x=1 y=2"),
        ("/", "upstream"),
        ("*", "upstream"),
        ("", "upstream"),
        ("/Events", "upstream"),
        ("/event", "upstream"),
        ("/eventss", "upstream"),
        ("/orders", "upstream"),
        ("/orders/42", "upstream"),
        ("/orders/42/events/x", "upstream"),
        ("/files/a%2Fb/../c//d/", "upstream"),
        ("/files/a%20b;v=1", "upstream"),
    ];
    for (path, expected) in cases {
        assert_eq!(found(&table, path), expected, "{path}");
    }
}

#[test]
fn the_most_specific_route_wins_segment_by_segment_from_the_left() {
    let table = table(&["/a/{x}/c", "/a/b/{y}", "/a/b/d", "/{z}/b/c", "/"]);
    let cases = [
        ("/a/b/c", "/a/b/{y} y=c"),
        ("/a/b/d", "/a/b/d"),
        ("/a/q/c", "/a/{x}/c x=q"),
        ("/q/b/c", "/{z}/b/c z=q"),
        ("/a/q/d", "upstream"),
        ("/", "/"),
    ];
    for (path, expected) in cases {
        assert_eq!(found(&table, path), expected, "{path}");
    }
}

#[test]
fn matching_backtracks_from_a_literal_to_a_parameter() {
    let table = table(&["/a/b/d", "/a/{x}/c"]);
    assert_eq!(found(&table, "/a/b/c"), "/a/{x}/c x=b");
}

#[test]
fn refuses_every_other_spelling_of_a_route() {
    let table = table(&["/events", "/orders/{orderId}/events", "/orders/{orderId}", "/orders/secret"]);
    let disguises = [
        "//events",
        "/events/",
        "/./events",
        "/events/.",
        "/x/../events",
        "/x/%2e%2e/events",
        "/x/%252e%252E/events",
        "/%2Fevents",
        "%2Fevents",
        "events",
        "\\events",
        "/x\\..\\events",
        "/x%5c..%5cevents",
        "/ev%65nts",
        "/ev%2565nts",
        "/events;v=1",
        "/x/..;/events",
        "/x/%2e%2e%3b/events",
        "/events%00",
        "/anything%00",
        "/orders//../42/events",
        "/orders/../orders/%2e%2e/events",
        "//orders/a%2Fb/events",
        "//orders/%252F/events",
        "/x/%2e%2e/orders/a%2Fb/events",
        "/orders/a%2Fb/events",
        "/orders/a%2F..%2Fb/events",
        "/orders/a%252Fb/events",
        "/orders/%2e%2e/events",
        "/orders/./events",
        "/orders/%00/events",
        "/orders/%0a/events",
        "/orders/%ff/events",
        "/orders/a%5Cb/events",
        "/orders/s%65cret",
        "/orders/secret;x",
    ];
    for path in disguises {
        assert_eq!(found(&table, path), "disguised", "{path}");
    }
}

#[test]
fn a_path_too_long_to_normalize_is_refused_unless_it_is_plain() {
    let table = table(&["/events"]);
    let long = "/a".repeat(NORMALIZED_PATH_BYTES_MAX);
    assert_eq!(found(&table, &long), "upstream");
    assert_eq!(found(&table, &format!("{long}//x")), "disguised");
}

#[test]
fn two_patterns_for_the_same_paths_are_rejected() {
    let refused = RouteTable::new(["/a/{x}", "/a/b", "/a/{y}"].map(|pattern| route(pattern).into()).into());
    assert_eq!(refused.err(), Some(BadRoutes::Overlap { one: "/a/{x}".into(), other: "/a/{y}".into() }));
    let cause = BadPattern::NotAbsolute;
    assert_eq!(RouteTable::new(vec![route("a").into()]).err(), Some(BadRoutes::Pattern { pattern: "a".into(), cause }));
}

/// The spellings of a piece of a path that some server reads as the piece itself.
fn spelling(piece: &'static str) -> BoxedStrategy<String> {
    let encode = |text: &str, percent: &str| text.bytes().fold(String::new(), |t, b| format!("{t}{percent}{b:02x}"));
    match piece {
        "/" => prop_oneof![
            4 => Just("/"),
            1 => Just("//"),
            1 => Just("/./"),
            1 => Just("/%2e/"),
            1 => Just("/x/../"),
            1 => Just("/x%2f%2E%2e/"),
            1 => Just("\\"),
            1 => Just("%5C"),
            1 => Just("%2f"),
            1 => Just("%252F"),
            1 => Just("/;a=b/"),
            1 => Just("/x/..;/"),
        ]
        .prop_map(String::from)
        .boxed(),
        _ => prop_oneof![
            4 => Just(piece.to_string()),
            1 => Just(encode(piece, "%")),
            1 => Just(encode(piece, "%25")),
            1 => Just(encode(piece, "%2525")),
            1 => Just(format!("{piece};p")),
            1 => Just(format!("{}{}", encode(&piece[..1], "%"), &piece[1..])),
        ]
        .boxed(),
    }
}

fn disguised_path() -> impl Strategy<Value = String> {
    let path = ["/", "orders", "/", "42", "/", "events"].map(spelling);
    let end = prop_oneof![4 => Just(""), 1 => Just("/"), 1 => Just("/."), 1 => Just("/x/.."), 1 => Just("%2f")];
    (path, end).prop_map(|(pieces, end)| pieces.concat() + end)
}

proptest! {
    #[test]
    fn no_spelling_of_a_stream_route_is_the_upstreams(path in disguised_path()) {
        let table = table(&["/orders/{orderId}/events"]);
        prop_assert_ne!(table.find(&path), Found::Upstream);
    }

    #[test]
    fn a_stream_is_found_by_its_own_spelling_only(path in disguised_path()) {
        let table = table(&["/orders/{orderId}/events"]);
        if let Found::Stream { .. } = table.find(&path) {
            let segments: Vec<_> = path.split('/').collect();
            prop_assert!(matches!(segments[..], ["", "orders", _, "events"]), "{}", path);
        }
    }

    #[test]
    fn any_text_has_a_result(path in "\\PC{0,40}|[/.%;\\\\2fFeE5cC0a]{0,40}") {
        table(&["/", "/a/{x}", "/{x}/{y}/c"]).find(&path);
    }

    #[test]
    fn a_plain_path_without_a_route_is_forwarded(path in "(/[a-z]{1,4}){1,3}(/a%20b)?") {
        prop_assume!(!path.starts_with("/orders"));
        let table = table(&["/orders/{orderId}/events"]);
        prop_assert_eq!(table.find(&path), Found::Upstream);
    }
}
