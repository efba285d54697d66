//! The forms of `routes.bind`.

use super::tests::{refused, route};
use crate::access::Rule;

#[test]
fn a_binding_is_compiled() {
    let cases = [
        ("claims.sub", Rule::Any, 1),
        ("[claims.sub, claims.org.id]", Rule::Any, 2),
        ("{ any: claims.sub }", Rule::Any, 1),
        ("{ all: [path.id, claims.sub] }", Rule::All, 2),
        ("{ prefix: [claims.sub] }", Rule::Prefix, 1),
    ];
    for (text, rule, sources) in cases {
        let route = route(&format!("bind: {{ userId: {text} }}"));
        assert_eq!((route.bindings[0].rule, route.bindings[0].sources.len()), (rule, sources), "{text}");
    }
}

#[test]
fn a_wrong_binding_is_refused() {
    let route = |binding: &str| {
        let stream = "streams: { s: { topics: [t], keys: [userId, orderId] } }\n";
        let auth = "auth: { key_file: jwt.key, algorithms: [HS256] }\n";
        format!("{stream}{auth}routes: [{{ path: '/x/{{id}}', stream: s, bind: {{ {binding} }} }}]\n")
    };
    let sources = (0..17).map(|n| format!("claims.c{n}")).collect::<Vec<_>>().join(", ");
    refused(&route("userId: @@[]"), "found a list; expected `path.<parameter>`,");
    refused(&route(&format!("userId: @@[{sources}]")), "found a list; expected `path.<parameter>`,");
    refused(&route("userId: @@{}"), "found a mapping; expected `path.<parameter>`,");
    refused(&route("userId: { @@some: [path.id] }"), "unknown key `some`; expected `any`, `all` or `prefix`");
    refused(&route("userId: @@{ any: path.id, all: path.id }"), "found a mapping; expected `path.<parameter>`,");
    refused(&route("userId: { any: [@@{}] }"), "found a mapping; expected");
    refused(&route("userId: { prefix: @@path.id }"), "a client chooses the value of a path parameter");
    refused(&route("userId: @@[path.id, claims.sub]"), "a client chooses the value of a path parameter");
    refused(&route("userId: { all: [@@path.di, claims.sub] }"), "the path has no parameter `di` (did");
    let prefixes = "userId: { prefix: claims.a }, orderId: @@{ prefix: claims.b }";
    refused(&route(prefixes), "another key of this route has a `prefix`");
}
