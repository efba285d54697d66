//! Every annotation of ingress-nginx and its outcome, without the prefix `nginx.ingress.kubernetes.io/`.
//!
//! The names are those of the last documentation of ingress-nginx, before it was archived
//! (`tests/ingress/documented/`), and those of older versions. `docs/migration.md` contains this table; a test compares
//! them.

use super::outcome::Outcome::{Cors, Gateway, Login, Mapped, NotNeeded, Snippet};
use super::outcome::{Entry, Scope};
use super::setting::Setting;

pub(super) const ANSWERS: &str = "answers are cached by everything that the service was asked with";
pub(super) const ORIGINAL_URI: &str = "the authentication service is sent `X-Forwarded-Uri`";
pub(super) const SIGN_IN: &str = "redirect to a login at the gateway, or in the page: a stream without one is a 401";
const AFFINITY: &str =
    "streams resume by cursor on any replica; keep it at the gateway only if the service's own requests need it";
const AUTH: &str =
    "keep it at the gateway; sidestream supports JWTs and forward auth (`auth`), not basic or digest logins";
const BUFFERING: &str =
    "sidestream does not buffer: responses pass unbuffered, and each stream has a bounded queue (`queue`)";
const CANARY: &str = "split traffic at the gateway; both versions may have a sidestream";
const CERTIFICATES: &str = "the gateway, which terminates TLS, verifies client certificates";
const LIMITS: &str = "limit per client address at the gateway; sidestream limits streams of a route (`max_streams`) \
                      and of the process (`limits`)";
const LOGS: &str = "configure access logs and traces at the gateway";
const MIRROR: &str = "mirror at the gateway";
const MODSECURITY: &str = "run a firewall at the gateway";
const NETWORKS: &str = "allow and deny addresses at the gateway";
const REDIRECTS: &str = "redirect at the gateway";
const REMOVED: &str = "later versions of ingress-nginx removed it; if yours has it, set it at the gateway";
const REWRITING: &str = "rewrite at the gateway; routes have the rewritten paths that sidestream receives";
const TLS: &str = "the gateway terminates TLS; sidestream listens with plain HTTP";
const UPSTREAM_TLS: &str =
    "sidestream speaks plain HTTP to the service, within the pod; let the service listen without TLS there";

pub(super) const PREFIX: &str = "nginx.ingress.kubernetes.io/";

pub(super) const ANNOTATIONS: &[Entry] = &[
    // Mapped to a key
    Entry { names: "proxy-connect-timeout", outcome: Mapped(Setting::ConnectTimeout) },
    Entry { names: "proxy-read-timeout", outcome: Mapped(Setting::ReadTimeout) },
    Entry { names: "proxy-send-timeout", outcome: Mapped(Setting::WriteTimeout) },
    Entry { names: "proxy-next-upstream proxy-next-upstream-tries", outcome: Mapped(Setting::Retries) },
    Entry { names: "auth-url auth-response-headers auth-cache-duration auth-method", outcome: Login },
    Entry {
        names: "enable-cors cors-allow-credentials cors-allow-headers cors-allow-methods cors-allow-origin \
                cors-expose-headers cors-max-age",
        outcome: Cors,
    },
    // Parsed directive by directive
    Entry { names: "configuration-snippet server-snippet", outcome: Snippet(Scope::Requests) },
    Entry { names: "auth-snippet", outcome: Snippet(Scope::Authentication) },
    Entry { names: "stream-snippet", outcome: Snippet(Scope::Tcp) },
    // Not needed
    Entry {
        names: "proxy-buffering proxy-buffers-number proxy-buffer-size proxy-busy-buffers-size \
                proxy-max-temp-file-size",
        outcome: NotNeeded(BUFFERING),
    },
    Entry {
        names: "proxy-request-buffering client-body-buffer-size",
        outcome: NotNeeded("request bodies pass unbuffered"),
    },
    Entry {
        names: "proxy-next-upstream-timeout",
        outcome: NotNeeded(
            "attempts are bounded by their number (`upstream.retries`) and by `upstream.connect_timeout`",
        ),
    },
    Entry {
        names: "proxy-http-version connection-proxy-header",
        outcome: NotNeeded("sidestream speaks HTTP/1.1 to the service and keeps connections"),
    },
    Entry {
        names: "affinity affinity-mode affinity-canary-behavior session-cookie-change-on-failure \
                session-cookie-conditional-samesite-none session-cookie-domain session-cookie-expires \
                session-cookie-hash session-cookie-max-age session-cookie-name session-cookie-partitioned \
                session-cookie-path session-cookie-samesite session-cookie-secure upstream-hash-by \
                upstream-hash-by-subset upstream-hash-by-subset-size",
        outcome: NotNeeded(AFFINITY),
    },
    Entry { names: "http2-push-preload", outcome: NotNeeded("browsers have dropped HTTP/2 push") },
    Entry { names: "enable-rewrite-log", outcome: NotNeeded("sidestream does not rewrite requests") },
    Entry {
        names: "add-base-url base-url-scheme enable-dynamic-tls-records enable-influxdb enable-opentracing \
                global-rate-limit global-rate-limit-ignored-cidrs global-rate-limit-key global-rate-limit-window \
                grpc-backend influxdb-host influxdb-measurement influxdb-port influxdb-server-name lua-resty-waf \
                opentracing-operation-name opentracing-trust-incoming-span secure-backends secure-verify-ca-secret \
                upstream-fail-timeout upstream-max-fails",
        outcome: NotNeeded(REMOVED),
    },
    Entry { names: "auth-cache-key", outcome: NotNeeded(ANSWERS) },
    Entry {
        names: "enable-global-auth",
        outcome: NotNeeded("`auth.forward` is asked about each route; one that must be excepted is `public: true`"),
    },
    Entry {
        names: "auth-keepalive auth-keepalive-requests auth-keepalive-share-vars auth-keepalive-timeout",
        outcome: NotNeeded("connections to the authentication service are kept"),
    },
    Entry { names: "auth-request-redirect", outcome: NotNeeded(ORIGINAL_URI) },
    // Left to the gateway
    Entry {
        names: "proxy-body-size",
        outcome: Gateway("limit bodies at the gateway; sidestream forwards them regardless of size"),
    },
    Entry { names: "auth-signin auth-signin-redirect-param", outcome: Gateway(SIGN_IN) },
    Entry {
        names: "auth-always-set-cookie",
        outcome: Gateway("set cookies at the gateway: sidestream passes on none of the authentication service's"),
    },
    Entry {
        names: "auth-proxy-set-headers",
        outcome: Gateway(
            "its ConfigMap is not read; `auth.forward.request_headers` lists fields of the request to send",
        ),
    },
    Entry { names: "auth-realm auth-secret auth-secret-type auth-type satisfy", outcome: Gateway(AUTH) },
    Entry {
        names: "auth-tls-error-page auth-tls-match-cn auth-tls-pass-certificate-to-upstream auth-tls-secret \
                auth-tls-verify-client auth-tls-verify-depth",
        outcome: Gateway(CERTIFICATES),
    },
    Entry {
        names: "limit-allowlist limit-burst-multiplier limit-connections limit-rate limit-rate-after limit-rpm \
                limit-rps limit-whitelist",
        outcome: Gateway(LIMITS),
    },
    Entry { names: "allowlist-source-range denylist-source-range whitelist-source-range", outcome: Gateway(NETWORKS) },
    Entry {
        names: "canary canary-by-cookie canary-by-header canary-by-header-pattern canary-by-header-value \
                canary-weight canary-weight-total",
        outcome: Gateway(CANARY),
    },
    Entry { names: "rewrite-target use-regex x-forwarded-prefix", outcome: Gateway(REWRITING) },
    Entry {
        names: "app-root force-ssl-redirect from-to-www-redirect permanent-redirect permanent-redirect-code \
                preserve-trailing-slash proxy-redirect-from proxy-redirect-to relative-redirects ssl-redirect \
                temporal-redirect temporal-redirect-code use-port-in-redirects",
        outcome: Gateway(REDIRECTS),
    },
    Entry { names: "ssl-ciphers ssl-passthrough ssl-prefer-server-ciphers", outcome: Gateway(TLS) },
    Entry {
        names: "proxy-ssl-ciphers proxy-ssl-name proxy-ssl-protocols proxy-ssl-secret proxy-ssl-server-name \
                proxy-ssl-verify proxy-ssl-verify-depth",
        outcome: Gateway(UPSTREAM_TLS),
    },
    Entry {
        names: "backend-protocol",
        outcome: Gateway(
            "sidestream speaks HTTP/1.1 to the service; route gRPC, FastCGI and TLS past it, to the service's own port",
        ),
    },
    Entry {
        names: "fastcgi-index fastcgi-params-configmap",
        outcome: Gateway("sidestream speaks HTTP/1.1 to the service; route FastCGI past it, to the service's own port"),
    },
    Entry {
        names: "load-balance service-upstream",
        outcome: Gateway("balance at the gateway; sidestream has one service, the one in its pod"),
    },
    Entry {
        names: "upstream-vhost",
        outcome: Gateway("set the Host header at the gateway; sidestream forwards it unchanged"),
    },
    Entry {
        names: "server-alias",
        outcome: Gateway("select hosts at the gateway; sidestream serves its routes on any host"),
    },
    Entry {
        names: "custom-headers proxy-cookie-domain proxy-cookie-path",
        outcome: Gateway("change response headers at the gateway, or let the service set them"),
    },
    Entry {
        names: "custom-http-errors default-backend disable-proxy-intercept-errors",
        outcome: Gateway(
            "configure error pages at the gateway; sidestream's own errors are `application/problem+json`",
        ),
    },
    Entry { names: "mirror-host mirror-request-body mirror-target", outcome: Gateway(MIRROR) },
    Entry {
        names: "enable-modsecurity enable-owasp-core-rules modsecurity-snippet modsecurity-transaction-id",
        outcome: Gateway(MODSECURITY),
    },
    Entry {
        names: "enable-access-log enable-opentelemetry opentelemetry-operation-name \
                opentelemetry-trust-incoming-span",
        outcome: Gateway(LOGS),
    },
];
