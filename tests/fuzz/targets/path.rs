//! Any path: one that is spelled differently from a stream route's pattern, but that a server may read as the route, is
//! not forwarded to the upstream. The time for that is linear in the length.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use sidestream::example_route as route;
use sidestream::route::{Found, RouteTable};

static TABLE: LazyLock<RouteTable> = LazyLock::new(|| {
    let patterns = ["/events", "/orders/{orderId}/events", "/a/{x}/{y}", "/a/b/c/d"];
    RouteTable::new(patterns.iter().map(|pattern| route(pattern).into()).collect()).expect("routes that do not overlap")
});

fuzz_target!(|path: &str| {
    match TABLE.find(path) {
        Found::Upstream => {
            assert_ne!(path, "/events");
            // Respelled, it is still not a stream route.
            let respelled = path.replace('/', "//");
            let respelled = TABLE.find(&respelled);
            assert!(matches!(respelled, Found::Upstream | Found::Disguised), "{path:?}");
        }
        Found::Disguised => {}
        Found::Stream { route, params } => {
            assert!(path.starts_with('/'));
            assert_eq!(route.pattern.matches('{').count(), params.len());
            // With a dot segment, it is not forwarded.
            assert!(matches!(TABLE.find(&format!("/.{path}")), Found::Disguised), "{path:?}");
            assert!(matches!(TABLE.find(&format!("/x/..{path}")), Found::Disguised), "{path:?}");
        }
    }
});
