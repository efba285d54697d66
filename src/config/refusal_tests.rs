//! Values and combinations that the compiler refuses, each with its message and position.

use super::tests::{mistakes, refused};

#[test]
fn refuses_topics_that_cannot_be_read_as_written() {
    let topic = |text: &str| {
        format!(
            "clusters: {{ eu: {{ brokers: 'a:1' }} }}\nstreams: {{ s: {{ topics: [t, u], keys: [userId] }} }}\ntopics: {{ t: {{ {text} }} }}\n"
        )
    };
    refused(
        &topic("format: @@xml"),
        "found `xml`; expected `json`, `text`, `binary`, `avro`, `protobuf` or `json-schema`",
    );
    refused(&topic("format: @@avro"), "there is no registry `registry`");
    refused(&topic("key_format: protobuf, registry: @@other"), "there is no registry `other`");
    refused(&topic("headers: @@yes"), "found `yes`; expected `true`, `false` or a list of names");
    refused(&topic("headers: @@[5]"), "found a list; expected `true`");
    refused(&topic("cluster: @@us"), "there is no cluster `us`; expected `kafka` or `eu`");
    refused(&topic("topic: @@'a b'"), "found `a b`; expected a topic's name");
    refused(&topic("topic: @@u"), "the topic `u` of the cluster `kafka` is read as");
    refused(&topic("map: { type: @@eventType }"), "found `eventType`; expected a JSON pointer such as");
    refused(&topic("map: { type: @@[/a, b] }"), "found a list; expected a JSON pointer such as");
    refused(&topic("map: { type: @@[] }"), "found a list; expected a JSON pointer such as");
    refused(&topic("map: { type: @@'field:' }"), "found `field:`; expected a JSON pointer such as");
    refused(&topic("map: { data: @@key }"), "found `key`; expected a JSON pointer such as `/after`");
    refused(&topic("map: { types: { c: @@'' } }"), "expected a type");
    refused(&topic("map: { drop: [@@''] }"), "expected a type");
    refused(&topic("shape: @@debezum"), "expected `debezium` or `connect`");
    refused(&topic("format: text, shape: @@debezium"), "records of this shape are JSON");
    let dropped = "the shape of this topic drops records of the type `delete`";
    refused(&topic("shape: debezium, map: { types: { d: @@delete } }"), dropped);
    refused(&topic("map: { ts: @@'const:1' }"), "the time of every event can't be one constant");
    refused(&topic("map: { keys: { userId: @@user } }"), "`topics.t.map.keys`: found `user`; expected a JSON pointer");
    refused(&topic("map: { keys: { @@userid: key } }"), "declares the key `userid` (did you mean `userId`?)");
    refused(&topic("map: { @@kind: key }"), "unknown key `topics.t.map.kind`");
    refused(&topic("format: text, map: { type: @@/a }"), "points at nothing in text or bytes");
    refused(&topic("format: binary, map: { keys: { userId: @@/a } }"), "points at nothing in text or bytes");
    refused("clusters: { eu: @@{} }\n", "`clusters.eu.brokers` is missing");
    refused("registry: @@{}\n", "`registry.url` is missing");
    refused("registry: { url: @@ftp://a }\n", "found `ftp://a`; expected a URL");
    refused("registry: { url: 'https://a', username: @@b }\n", "a user without a password");
    refused(
        "registries: { @@registry: { url: 'https://a' } }\n",
        "`registry` is the registry of the section `registry`",
    );
    refused("clusters: { @@kafka: { brokers: 'a:1' } }\n", "`kafka` is the cluster of the section `kafka`");
    let owned = "clusters: { eu: { brokers: 'a:1', properties: { @@enable.auto.commit: true } } }\n";
    refused(owned, "`enable.auto.commit` is set by sidestream itself");
}

#[test]
fn refuses_what_is_no_yaml_or_no_mapping() {
    assert_eq!(mistakes("a: [1\nb: 2"), ["x.yaml:2:2: not valid YAML: illegal placement of ':' indicator"]);
    assert_eq!(
        mistakes("a: 1\n---\nb: 2\n"),
        ["x.yaml:3:1: a second YAML document begins here; a configuration is one"]
    );
    assert!(mistakes("").iter().all(|mistake| mistake.starts_with("x.yaml:1:1: ") && mistake.contains("is missing")));
    assert!(mistakes("- a\n").contains(&"x.yaml:1:1: found a list; expected a mapping of keys".into()));
    refused("limits: @@5\n", "found `5`; expected a mapping");
    refused("drain: { budget: 1s }\n@@drain: { budget: 2s }\n", "`drain` is given twice");
}

#[test]
fn refuses_values_out_of_range() {
    refused("admin: { listen: @@':9090' }\n", "found `:9090`; expected an IP address and a port");
    refused("limits: { streams: @@0 }\n", "found `0`; expected a whole number between 1 and");
    refused(
        "limits: { streams: @@11, connections: 10 }\n",
        "`limits.streams` is more than `limits.connections`, 10, allows",
    );
    refused("limits: { idle_timeout: @@1.5s }\n", "found `1.5s`; expected a duration");
    refused("drain: { budget: @@0s }\n", "found `0s`; expected a duration");
    refused("drain: { budget: @@1h }\n", "found `1h`; expected a duration");
    refused("replay: { time: @@0s }\n", "found `0s`; expected a duration");
    refused("replay: { cache: @@1MiB }\n", "found `1MiB`; expected a size");
    refused("writers: @@0\n", "found `0`");
    refused("writers: @@two\n", "found `two`");
    refused("metrics: { prefix: @@2fast }\n", "found `2fast`; expected a metric name");
    refused("metrics: { prefix: @@a-b }\n", "found `a-b`; expected a metric name");
    refused("tracing: { endpoint: @@'https://c:4318' }\n", "`https` is not supported");
    refused("tracing: { endpoint: @@'127.0.0.1:4318' }\n", "expected the URL of an OpenTelemetry collector's receiver");
    refused("tracing: { endpoint: @@'http://me:secret@c/' }\n", "expected the URL");
    refused("tracing: { sample: @@1.5 }\n", "found `1.5`; expected a number between 0 and 1");
    refused("tracing: { service_name: @@'' }\n", "expected a text of 1 to 255 bytes");
    refused("forwarded: { trust: @@some }\n", "found `some`; expected `none`, `all` or a list");
    refused("forwarded: { trust: [@@10.0.0.0/33] }\n", "found `10.0.0.0/33`");
}

#[test]
fn refuses_topics_without_a_stream_and_empty_streams() {
    let stream = "streams: { s: { topics: [orders] } }\n";
    refused(
        &format!("{stream}topics: {{ @@order: }}\n"),
        "no stream carries the topic `order` (did you mean `orders`?)",
    );
    refused("streams: { s: { topics: @@[] } }\n", "`topics` of the stream `s` is empty");
    refused("streams: { s: { topics: @@5 } }\n", "found `5`; expected a list");
    refused("streams: { s: @@5 }\n", "`streams.s`: found `5`; expected a mapping");
    refused("routes: [@@5]\n", "`routes`: found `5`; expected a mapping");
    refused("streams: { s: @@{} }\n", "`streams.s.topics` is missing");
    refused("streams: { s: { topics: [t, @@t] } }\n", "the topic `t` is listed twice");
    refused("streams: { s: { topics: [t], keys: [a, @@a] } }\n", "the key `a` is listed twice");
    refused("streams: { @@'s s': { topics: [t] } }\n", "`s s` is not a valid stream name");
}

#[test]
fn refuses_cors_policies_that_browsers_reject_or_that_match_no_page() {
    let cors = |text: &str| format!("cors: {{ {text} }}\n");
    refused(&cors("origins: ['*'], credentials: @@true"), "would let every site read with the user's cookie");
    refused(&cors("origins: [@@https://a.example/]"), "`https://a.example/`: an origin has no path");
    refused(&cors("origins: [@@https://A.example]"), "written in lower case");
    refused(&cors("origins: [@@https://a.example:443]"), "browsers leave out the default port");
    refused(&cors("origins: [@@'null']"), "it identifies no page");
    refused(&cors("origins: [@@'https://a*.example']"), "a wildcard is the whole first label");
    refused(&cors("origins: [https://a.example, @@https://a.example]"), "`https://a.example` is listed twice");
    refused(&cors("origins: @@https://a.example"), "expected a list");
    refused(&cors("origins: [], headers: [@@'a b']"), "expected the name of a request header");
    refused(&cors("origins: [], max_age: @@25h"), "found `25h`");
    refused("cors: @@{ credentials: true }\n", "`cors.origins` is missing");
}

#[test]
fn refuses_quotas_that_limit_nothing() {
    let quota = |text: &str| format!("limits: {{ quotas: [{text}] }}\n");
    refused(&quota("@@{ by: address }"), "the quota limits nothing; expected `streams`, `opens_per_minute`, ");
    refused(&quota("@@{ streams: 1 }"), "`limits.quotas.by` is missing");
    refused(
        &quota("{ by: @@sub, streams: 1 }"),
        "found `sub`; expected `process`, `route`, `address` or `claims.<claim>`",
    );
    refused(&quota("{ by: process, bytes_per_second: @@1 }"), "found `1`; expected a size");
    let of_route = |text: &str| {
        let stream = "streams: { s: { topics: [t] } }\n";
        format!("{stream}routes: [{{ public: true, path: /x, stream: s, quotas: [{text}] }}]\n")
    };
    refused(&of_route("{ by: @@process, streams: 1 }"), "found `process`; expected `route`, `address` or");
    refused(&of_route("@@{ by: route }"), "the quota limits nothing");
    refused(&quota("{ by: address, streams: @@0 }"), "found `0`");
    refused(
        &quota("{ by: claims.sub, streams: 1 }, { by: @@claims.sub, opens_per_minute: 1 }"),
        "another quota counts by `claims.sub`",
    );
    let nine = (0..9).map(|n| format!("{{ by: claims.c{n}, streams: 1 }}")).collect::<Vec<_>>().join(", ");
    refused(&format!("limits: {{ quotas: @@[{nine}] }}\n"), "there are more than 8 quotas");
}

#[test]
fn refuses_routes_that_would_do_harm() {
    let stream = "streams: { s: { topics: [t], keys: [userId] } }\n";
    let public = |text: &str| format!("{stream}routes: [{{ public: true, path: /x, stream: s, {text} }}]\n");
    refused(&public("bind: { userId: @@claims.sub }"), "a public route has no token");
    refused(&public("bind: { userId: @@path.id }"), "the path has no parameter `id`");
    refused(&public("bind: { userId: @@sub }"), "found `sub`; expected `path.<parameter>`,");
    refused(&public("allowed_origins: [@@'*']"), "`*` would let every site");
    refused(&public("allowed_origins: [@@https://a.b/]"), "found `https://a.b/`; expected an origin");
    refused(&public("refresh: @@orders"), "found `orders`; expected a URL");
    refused(&public("heartbeat_interval: @@11m"), "found `11m`");
    refused(&public("queue: { events: @@0 }"), "found `0`");
    refused(&public("queue: { bytes: @@1k }"), "found `1k`; expected a size");
    refused(&public("websocket: { frames: @@binary }"), "binary frames hold the payload alone, not an envelope");
    refused(&public("websocket: { subprotocols: [@@a b] }"), "found `a b`");
    refused(&public("websocket: { subscribe: [@@x] }"), "found `x`; expected the `path` of a route");
    refused(&public("websocket: { subscribe: [/x, @@/y] }"), "no route that offers WebSocket has the path `/y`");
    refused(&public("transport: sse, websocket: { subscribe: [@@/x] }"), "has the path `/x`");
    let route = |text: &str| format!("{stream}routes: [{{ stream: s, {text} }}]\n");
    refused(&route("path: @@/x"), "this route would be open to everybody");
    refused(&route("path: @@x, public: true"), "`x` is not a valid pattern");
    refused(
        &route("path: '/x/{id}', public: true, bind: { @@user: path.id }"),
        "the stream `s` declares no key `user`",
    );
    refused(
        &route("path: '/x/{id}', public: true, bind: { userId: @@path.di }"),
        "the path has no parameter `di` (did",
    );
    refused(
        &format!("auth: {{ key_file: jwt.key, algorithms: [HS256] }}\n{}", route("path: /x, public: @@yes")),
        "found `yes`",
    );
}

#[test]
fn refuses_keys_and_algorithms_that_do_not_fit() {
    let auth = |text: &str| format!("auth: {text}\n");
    refused(&auth("@@{ key_file: jwt.key }"), "`auth.algorithms` is missing");
    refused(&auth("@@{ algorithms: [HS256] }"), "`auth.key_file` is missing");
    refused(&auth("{ key_file: jwt.key, jwks_file: @@jwt.key, algorithms: [HS256] }"), "expected one of them");
    refused(&auth("{ jwks_file: @@jwt.key, algorithms: [HS256] }"), "`auth.jwks_file`: the file is not a JWKS");
    refused(&auth("{ jwks_url: 'https://i/keys', discovery: @@true, algorithms: [RS256] }"), "expected one of them");
    refused(&auth("{ jwks_url: @@'file:///keys', algorithms: [RS256] }"), "expected a URL");
    refused(&auth("{ jwks_url: @@'https://me:pass@i/keys', algorithms: [RS256] }"), "expected a URL");
    refused(&auth("{ jwks_url: @@'https://i/keys', algorithms: [HS256] }"), "needs a secret, which no URL publishes");
    refused(&auth("@@{ discovery: true, algorithms: [RS256] }"), "`auth.issuer` is missing");
    refused(&auth("{ issuer: @@login, discovery: true, algorithms: [RS256] }"), "expected a URL");
    refused(&auth("{ issuers: @@[] }"), "`auth.issuers` is empty");
    let forward = |text: &str| auth(&format!("{{ forward: {text} }}"));
    refused(&forward("@@{ cache: 1s }"), "`auth.forward.url` is missing");
    refused(&forward("{ url: @@me }"), "expected a URL");
    refused(&forward("{ url: @@'https://me:pass@i/x' }"), "expected a URL");
    refused(&forward("{ url: @@'http://127.0.0.1:8080/me' }"), "leads back to sidestream");
    refused(&forward("{ url: /me, cache: @@2m }"), "would hold for longer");
    refused(&forward("{ url: /me, request_headers: @@[] }"), "no request would have credentials");
    refused(&forward("{ url: /me, request_headers: [Cookie, @@Host] }"), "set by sidestream");
    refused(&forward("{ url: /me, request_headers: [Cookie, @@cookie] }"), "each name once");
    refused(&forward("{ url: /me, claims: { sub: @@'X User' } }"), "the name of a header field");
    refused(&auth("{ forward: { url: /me }, cookie: @@session }"), "no token is verified");
    let keys = |text: &str| auth(&format!("{{ api_keys: {text} }}"));
    refused(&keys("@@{ header: X-Key }"), "`auth.api_keys.file` is missing");
    refused(&keys("{ file: @@missing }"), "cannot be read");
    refused(&keys("{ file: @@jwt.key }"), "line 1: it is not a list of keys");
    refused(&keys("{ file: keys.yaml, header: @@Authorization }"), "the name of a header field");
    refused(&keys("{ file: keys.yaml, header: @@Host }"), "the name of a header field");
    refused(&auth("{ api_keys: { file: keys.yaml }, cookie: @@session }"), "no token is verified");
    let asked = |keys: &str| auth(&format!("{{ introspection: {keys} }}"));
    let client = "client_id: s, client_secret_file: jwt.key";
    refused(&asked(&format!("@@{{ {client} }}")), "`auth.introspection.url` is missing");
    refused(
        &asked("@@{ url: 'https://i/x', client_secret_file: jwt.key }"),
        "`auth.introspection.client_id` is missing",
    );
    refused(&asked("@@{ url: 'https://i/x', client_id: s }"), "`auth.introspection.client_secret_file` is missing");
    refused(&asked(&format!("{{ url: @@/x, {client} }}")), "expected a URL");
    refused(&asked(&format!("{{ url: @@'http://127.0.0.1:8080/x', {client} }}")), "leads back to sidestream");
    refused(&asked(&format!("{{ url: 'https://i/x', {client}, cache: @@2m }}")), "would hold for longer");
    refused(
        &auth("{ key_file: jwt.key, algorithms: [HS256], ca_file: @@jwt.key }"),
        "the file has no certificate in PEM",
    );
    let revocations = |text: &str| auth(&format!("{{ key_file: jwt.key, algorithms: [HS256], revocations: {text} }}"));
    refused(&revocations("{ topic: @@a/b }"), "the name of a topic");
    refused(&revocations("{ topic: t, cluster: @@eu }"), "there is no cluster `eu`");
    refused(&revocations("{ keep: @@1s }"), "found `1s`");
    let takes_token =
        "streams: { s: { topics: [t] } }\nroutes: [{ path: /x, stream: s, transport: ws, token_from: @@[message] }]\n";
    refused(&format!("{}{takes_token}", forward("{ url: /me }")), "takes no token");
    let certificates = |text: &str| auth(&format!("{{ client_certificates: {text} }}"));
    refused(&certificates("@@{ form: xfcc }"), "`auth.client_certificates.trust` is missing");
    refused(&certificates("{ trust: @@[] }"), "no certificate would count");
    for everybody in ["0.0.0.0/0", "'::/0'", "128.0.0.0/1", "'2000::/3'"] {
        refused(&certificates(&format!("{{ trust: [10.1.0.0/16, @@{everybody}] }}")), "could name any certificate");
    }
    refused(&certificates("{ trust: @@all }"), "expected a list");
    refused(&certificates("{ trust: [10.0.0.0/8], form: @@pem }"), "expected `xfcc` or `subject`");
    refused(&certificates("{ trust: [10.0.0.0/8], header: @@'a b' }"), "expected the name of a header field");
    refused(&certificates("{ trust: [10.0.0.0/8], verify_header: @@x }"), "is for `form: subject`");
    refused(&auth("{ cookie: @@c, client_certificates: { trust: [10.0.0.0/8] } }"), "of no use without an issuer");
    refused(&format!("{}{takes_token}", certificates("{ trust: [10.0.0.0/8] }")), "takes no token");
    refused(&auth("{ issuers: [@@{ key_file: jwt.key, algorithms: [HS256] }] }"), "`auth.issuers.issuer` is missing");
    let one = "{ issuer: i, key_file: jwt.key, algorithms: [HS256] }";
    refused(&auth(&format!("{{ issuers: [{one}, {}] }}", one.replace(": i", ": @@i"))), "`i` is listed twice");
    refused(
        &auth(&format!("{{ @@key_file: jwt.key, issuers: [{one}] }}")),
        "unknown key `auth.key_file`; expected `api_keys`, `ca_file`, `client_certificates`, `cookie`",
    );
    refused(&auth("{ key_file: jwt.key, algorithms: @@[] }"), "no algorithm is allowed");
    refused(&auth("{ key_file: jwt.key, algorithms: [@@none] }"), "found `none`; expected `HS256`");
    refused(&auth("{ key_file: jwt.key, algorithms: @@[HS256, RS256] }"), "the algorithms are of several families");
    refused(&auth("{ key_file: @@jwt.key, algorithms: [RS256] }"), "the key is not a PEM public key");
    refused(&auth("{ key_file: @@empty.key, algorithms: [HS256] }"), "the secret is empty");
    refused(&auth("{ key_file: @@nowhere.key, algorithms: [HS256] }"), "the file named here cannot be read: ");
    refused(&auth("{ key_file: jwt.key, algorithms: [HS256], cookie: @@'a b' }"), "found `a b`");
    refused(&auth("{ key_file: jwt.key, algorithms: [HS256], leeway: @@6m }"), "found `6m`");
}

#[test]
fn refuses_reserved_properties_and_quotes_no_secrets() {
    for (property, _) in [("bootstrap.servers", ()), ("enable.auto.commit", ()), ("auto.offset.reset", ())] {
        let text =
            format!("upstream: {{ address: a:1 }}\nkafka: {{ brokers: a:1, properties: {{ {property}: x }} }}\n");
        let found = mistakes(&text);
        assert!(
            found[0].starts_with("x.yaml:2:38: `") && found[0].contains("is set by sidestream itself"),
            "{found:?}"
        );
    }
    refused_of_client("check.crcs: @@perhaps", "`check.crcs`: Expected bool value");
    refused_of_client("@@compresion: x", "`compresion` is not a librdkafka property");
    let found = mistakes(
        "upstream: { address: a:1 }\n\
         kafka:\n\
         \x20 brokers: a:1\n\
         \x20 properties: { sasl.password: 12.5, Sasl.user: secret }\n\
         \x20 property_files: { sasl.password: password, ssl.key.password: nowhere }\n",
    );
    assert_eq!(found.len(), 4, "{found:#?}");
    assert!(!found.concat().contains("12.5") && !found.concat().contains("secret"), "{found:#?}");
}

#[track_caller]
fn refused_of_client(property: &str, message: &str) {
    let line = format!("kafka: {{ brokers: a:1, properties: {{ {property} }} }}");
    let column = line.find("@@").unwrap() + 1;
    let found = mistakes(&format!("upstream: {{ address: a:1 }}\n{}\n", line.replace("@@", "")));
    assert_eq!(found.len(), 1, "{found:#?}");
    assert!(found[0].starts_with(&format!("x.yaml:2:{column}: {message}")), "{found:#?}");
}
