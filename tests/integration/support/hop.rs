//! Reverse proxies between a client and the sidecar: nginx, HAProxy and Envoy, each with a configuration.
//!
//! A proxy never outlives the test that started it.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::client::installed;
use super::eventually;
use super::real_broker::{free_port, make_certificates};

pub struct Hop {
    pub address: SocketAddr,
    child: Child,
    folder: TempDir,
}

/// Keeps connections to the upstream open, as streams require.
pub const HTTP11: &str = "proxy_http_version 1.1; proxy_set_header Connection '';";
/// Forwards WebSocket upgrades.
pub const UPGRADE: &str = "proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; \
                           proxy_set_header Connection upgrade;";

impl Hop {
    /// nginx with these directives for all paths.
    pub fn nginx(upstream: SocketAddr, directives: &str) -> Self {
        Self::nginx_listening(upstream, "", directives)
    }

    /// nginx with TLS and a certificate that [`Self::authority`] signed.
    pub fn nginx_tls(upstream: SocketAddr, directives: &str) -> Self {
        let own = "ssl_certificate server.pem; ssl_certificate_key server.pem;";
        Self::nginx_listening(upstream, " ssl", &format!("{own} {directives}"))
    }

    fn nginx_listening(upstream: SocketAddr, tls: &str, directives: &str) -> Self {
        Self::start(|folder, listen| {
            if !tls.is_empty() {
                make_certificates(folder);
            }
            let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
                .iter()
                .map(|name| format!("{name}_temp_path {}/{name};\n", folder.display()))
                .collect();
            // The certificate directives belong into `server`, where the others are valid as well.
            let text = format!(
                "daemon off; master_process off; pid {folder}/pid; error_log stderr;\n\
                 events {{ worker_connections 64; }}\n\
                 http {{ access_log off; {temporary} server {{ listen {listen}{tls}; {directives}\n\
                 location / {{ proxy_pass http://{upstream}; }} }} }}\n",
                folder = folder.display()
            );
            let file = written(folder, "nginx.conf", &text);
            command(folder, "nginx", &["-e", "stderr", "-p", folder.to_str().unwrap(), "-c", &file])
        })
    }

    /// HAProxy with these lines in its defaults.
    pub fn haproxy(upstream: SocketAddr, lines: &str) -> Self {
        Self::start(|folder, listen| {
            let text = format!(
                "defaults\n mode http\n timeout connect 5s\n timeout client 1h\n timeout server 1h\n\
                 listen all\n bind {listen}\n {lines}\n server one {upstream}\n"
            );
            let file = written(folder, "haproxy.cfg", &text);
            command(folder, "haproxy", &["-db", "-f", &file])
        })
    }

    /// Envoy with these keys of its connection manager and of its route.
    pub fn envoy(upstream: SocketAddr, manager: &str, route: &str) -> Self {
        Self::envoy_listening(upstream, "name: one", manager, route)
    }

    /// Envoy with TLS, which verifies the certificate of a client that has one.
    pub fn envoy_mutual_tls(upstream: SocketAddr, manager: &str) -> Self {
        let own = "tls_certificates: [{ certificate_chain: { filename: FOLDER/server.crt }, private_key: { filename: FOLDER/server.key } }]";
        let theirs = "validation_context: { trusted_ca: { filename: FOLDER/ca.pem } }";
        let tls = format!(
            "transport_socket: {{ name: tls, typed_config: {{ \"@type\": \
             type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext, \
             common_tls_context: {{ {own}, {theirs} }} }} }}"
        );
        Self::envoy_listening(upstream, &tls, manager, "timeout: 0s")
    }

    fn envoy_listening(upstream: SocketAddr, chain: &str, manager: &str, route: &str) -> Self {
        Self::start(|folder, listen| {
            if chain.contains("FOLDER") {
                make_certificates(folder);
            }
            let address = |address: SocketAddr| {
                format!("{{ socket_address: {{ address: {}, port_value: {} }} }}", address.ip(), address.port())
            };
            let text = include_str!("envoy.yaml")
                .replace("LISTEN", &address(listen))
                .replace("UPSTREAM", &address(upstream))
                .replace("CHAIN", chain)
                .replace("FOLDER", folder.to_str().unwrap())
                .replace("MANAGER", manager)
                .replace("ROUTE", route);
            let file = written(folder, "envoy.yaml", &text);
            let binary = installed().join("venv/bin/envoy");
            let flags = ["-c", &file, "--concurrency", "1", "--disable-hot-restart", "--log-level", "error"];
            command(folder, binary.to_str().unwrap(), &flags)
        })
    }

    fn start(prepare: impl FnOnce(&Path, SocketAddr) -> Command) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let child = prepare(folder.path(), address).spawn().expect("setpriv and the proxy");
        let mut hop = Self { address, child, folder };
        eventually("a proxy", || {
            assert!(hop.child.try_wait().unwrap().is_none(), "{}", hop.log());
            TcpStream::connect(address).ok()
        });
        hop
    }

    /// The certificate of the authority that signed the proxy's certificate.
    pub fn authority(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// Its own certificate with the key, which the authority also accepts from a client.
    pub fn certificate(&self) -> PathBuf {
        self.folder.path().join("server.pem")
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Hop {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn written(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

fn command(folder: &Path, program: &str, arguments: &[&str]) -> Command {
    let log = fs::File::create(folder.join("log")).unwrap();
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", program]).args(arguments).stdin(Stdio::null()).stdout(Stdio::null());
    command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").stderr(log);
    command
}
