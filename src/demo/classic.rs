//! `/clients.js`: the page's package as a classic script, for pages and scripts that load it by this path. Its names are
//! those of the clients that earlier documents offered.

use std::sync::LazyLock;

/// The script. Modules are functions, classes and constants with distinct names, and import only each other.
pub(super) static SCRIPT: LazyLock<String> = LazyLock::new(|| {
    let modules = MODULES.iter().flat_map(|module| module.lines()).filter(|line| !line.starts_with("import "));
    let body: Vec<_> = modules.map(|line| line.strip_prefix("export ").unwrap_or(line)).chain([CLIENTS]).collect();
    let names = "SseStream, NdjsonStream, WebSocketStream";
    format!("'use strict';\nconst {{ {names} }} = (() => {{\n{}}})();\n", body.join("\n"))
});

const CLIENTS: &str = include_str!("page/classic.js");

/// What a stream consists of.
const MODULES: [&str; 8] = [
    include_str!("../../clients/js/src/backoff.js"),
    include_str!("../../clients/js/src/credit.js"),
    include_str!("../../clients/js/src/refused.js"),
    include_str!("../../clients/js/src/items.js"),
    include_str!("../../clients/js/src/text.js"),
    include_str!("../../clients/js/src/fetched.js"),
    include_str!("../../clients/js/src/websocket.js"),
    include_str!("../../clients/js/src/stream.js"),
];
