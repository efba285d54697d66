//! The clients: their routes, tokens and scopes. The routes of the configuration come from the same table.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::history::{Proto, Text};
use crate::plan::{TENANTS, TOPICS, USERS};
use crate::support::token;

/// The streams and their topics.
const STREAMS: [(&str, &[&str]); 2] =
    [("all", &[TOPICS[0].name, TOPICS[1].name, TOPICS[2].name]), ("ledger", &[TOPICS[0].name])];
const PROTOS: [(Proto, &str); 3] = [(Proto::Sse, "sse"), (Proto::Ndjson, "ndjson"), (Proto::Ws, "ws")];
/// What routes bind, by the prefix of their paths.
const SCOPES: [(&str, &str); 3] = [
    ("/tenant", "tenant: claims.tenant"),
    ("/mine", "tenant: claims.tenant, user: claims.sub"),
    ("/users/{user}", "tenant: claims.tenant, user: path.user"),
];
/// The suffix of the path of a route that continues after a gap.
pub const CONTINUE: &str = "/continue";
/// Short, so that tokens expire in every run, in seconds.
const TOKEN_S: std::ops::Range<u64> = 3..30;

/// The description of a client.
#[derive(Clone, Debug)]
pub struct Persona {
    pub proto: Proto,
    /// A path without [`CONTINUE`].
    pub path: String,
    pub stream: &'static str,
    /// Whether it requests [`CONTINUE`] from the start, or only after a 410.
    pub continues: bool,
    pub scope: Arc<[Text]>,
    pub topics: Arc<[Text]>,
    claims: Value,
}

impl Persona {
    /// A token that is valid for some seconds.
    pub fn token(&self, rng: &mut fastrand::Rng) -> String {
        let mut claims = self.claims.clone();
        claims["exp"] = (token::now() + rng.u64(TOKEN_S)).into();
        token::with(claims)
    }
}

/// A client of each tenant on every transport and every kind of route; one kind reads a single topic.
pub fn everybody() -> Vec<Persona> {
    let mut personas = Vec::new();
    for tenant in TENANTS {
        for (n, (proto, _)) in PROTOS.iter().enumerate() {
            let user = USERS[n];
            personas.push(persona(*proto, tenant, None, "/tenant", STREAMS[0]));
            personas.push(persona(*proto, tenant, None, "/tenant", STREAMS[1]));
            personas.push(persona(*proto, tenant, Some(user), "/mine", STREAMS[0]));
            personas.push(persona(*proto, tenant, Some(user), &format!("/users/{user}"), STREAMS[0]));
        }
    }
    personas.iter_mut().skip(1).step_by(2).for_each(|person| person.continues = true);
    personas
}

fn persona(
    proto: Proto,
    tenant: &str,
    user: Option<&str>,
    begin: &str,
    (stream, topics): (&'static str, &[&str]),
) -> Persona {
    let (_, name) = PROTOS.iter().find(|(known, _)| *known == proto).expect("a transport of the soak");
    let users = USERS.iter().filter(|known| user.is_none_or(|user| user == **known));
    Persona {
        proto,
        path: format!("{begin}/{stream}/{name}"),
        stream,
        continues: false,
        scope: users.map(|user| format!("{tenant}/{user}").into()).collect(),
        topics: topics.iter().map(|topic| (*topic).into()).collect(),
        claims: json!({"tenant": tenant, "sub": user.unwrap_or("nobody")}),
    }
}

/// The `streams` and `routes` of the configuration.
pub fn sections() -> String {
    let mut yaml = "streams:\n".to_owned();
    for (stream, topics) in STREAMS {
        yaml += &format!("  {stream}: {{ topics: [{}], keys: [tenant, user] }}\n", topics.join(", "));
    }
    yaml += "routes:\n";
    let options = "retry: 100ms, heartbeat_interval: 1s, queue: { events: 128 }";
    for (begin, bind) in SCOPES {
        for ((stream, _), (_, proto)) in STREAMS.iter().flat_map(|stream| PROTOS.map(|proto| (stream, proto))) {
            let route = format!("stream: {stream}, transport: {proto}, bind: {{ {bind} }}, {options}");
            let path = format!("{begin}/{stream}/{proto}");
            yaml += &format!("  - {{ path: \"{path}\", {route} }}\n");
            yaml += &format!("  - {{ path: \"{path}{CONTINUE}\", {route}, on_gap: continue }}\n");
        }
    }
    yaml
}
