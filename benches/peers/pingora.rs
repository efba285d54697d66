//! Unmodified Pingora as a proxy, for comparison with sidestream's pass-through: `bare-pingora LISTEN UPSTREAM`.

use std::env::args;
use std::sync::Arc;

use async_trait::async_trait;
use pingora::prelude::*;
use pingora::server::configuration::{Opt, ServerConf};

/// As many as nginx has workers.
const THREADS: usize = 2;
/// sidestream's default.
const POOL: usize = 128;

struct Bare(String);

#[async_trait]
impl ProxyHttp for Bare {
    type CTX = ();

    fn new_ctx(&self) {}

    async fn upstream_peer(&self, _session: &mut Session, _ctx: &mut ()) -> Result<Box<HttpPeer>> {
        Ok(Box::new(HttpPeer::new(self.0.as_str(), false, String::new())))
    }
}

fn main() {
    let [listen, upstream] = [1, 2].map(|n| args().nth(n).unwrap_or_default());
    let conf = ServerConf { threads: THREADS, upstream_keepalive_pool_size: POOL, ..ServerConf::default() };
    let mut server = Server::new_with_opt_and_conf(Opt::default(), conf);
    let mut proxy = http_proxy_service(&Arc::clone(&server.configuration), Bare(upstream));
    proxy.add_tcp(&listen);
    server.add_service(proxy);
    server.run_forever();
}
