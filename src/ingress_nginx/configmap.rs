//! Every key of ingress-nginx's ConfigMap and its outcome.
//!
//! The names are those of the last documentation of ingress-nginx, before it was archived
//! (`tests/ingress/documented/`), those that only its source contains, and those of older versions. `docs/migration.md`
//! contains this table; a test compares them.

use super::annotations::{ANSWERS, ORIGINAL_URI, SIGN_IN};
use super::outcome::Outcome::{Gateway, Login, Mapped, NotNeeded, Snippet};
use super::outcome::{Entry, Scope};
use super::setting::Setting;

const BLOCKING: &str = "allow and deny addresses at the gateway";
const BUFFERING: &str =
    "sidestream does not buffer: responses pass unbuffered, and each stream has a bounded queue (`queue`)";
const COMPRESSION: &str = "compress at the gateway; sidestream marks its streams `no-transform`, which excludes them";
const CONTROLLER: &str = "concerns only the controller, which is removed";
const ERRORS: &str = "configure error pages at the gateway; sidestream's own errors are `application/problem+json`";
const HEADERS: &str = "change headers at the gateway, or let the service set them";
const HEADS: &str = "fixed: a request head has at most 64 KiB and 100 fields";
const HTTP2: &str = "the gateway terminates HTTP/2";
const LIMITS: &str = "limit per client address at the gateway; sidestream limits streams of a route (`max_streams`) \
                      and of the process (`limits`)";
const LOGS: &str = "configure access logs at the gateway; sidestream logs to standard error (SIDESTREAM_LOG)";
const MODSECURITY: &str = "run a firewall at the gateway";
const PROCESS: &str = "sidestream has no such setting; a value for a whole gateway does not apply to one pod";
const REDIRECTS: &str = "redirect at the gateway";
const REMOVED: &str = "later versions of ingress-nginx removed it; if yours has it, set it at the gateway";
const TCP: &str = "configure TCP and UDP services at the gateway";
const TLS: &str = "the gateway terminates TLS; sidestream listens with plain HTTP";
const TRACING: &str = "configure traces at the gateway";
const TRUST: &str = "whom the gateway believes stays there; sidestream has to believe the gateway: put its addresses \
                     into `forwarded.trust`";

pub(super) const KEYS: &[Entry] = &[
    // Mapped to a key
    Entry { names: "proxy-connect-timeout", outcome: Mapped(Setting::ConnectTimeout) },
    Entry { names: "proxy-read-timeout", outcome: Mapped(Setting::ReadTimeout) },
    Entry { names: "proxy-send-timeout", outcome: Mapped(Setting::WriteTimeout) },
    Entry { names: "proxy-next-upstream proxy-next-upstream-tries", outcome: Mapped(Setting::Retries) },
    Entry { names: "upstream-keepalive-connections", outcome: Mapped(Setting::Pool) },
    Entry { names: "upstream-keepalive-timeout", outcome: Mapped(Setting::Keepalive) },
    Entry { names: "client-header-timeout", outcome: Mapped(Setting::HeaderTimeout) },
    Entry { names: "keep-alive", outcome: Mapped(Setting::IdleTimeout) },
    Entry { names: "worker-shutdown-timeout", outcome: Mapped(Setting::DrainBudget) },
    Entry {
        names: "global-auth-url global-auth-response-headers global-auth-cache-duration global-auth-method",
        outcome: Login,
    },
    // Parsed directive by directive
    Entry { names: "http-snippet location-snippet main-snippet server-snippet", outcome: Snippet(Scope::Requests) },
    Entry { names: "global-auth-snippet", outcome: Snippet(Scope::Authentication) },
    Entry { names: "stream-snippet", outcome: Snippet(Scope::Tcp) },
    // Not needed
    Entry { names: "global-auth-cache-key", outcome: NotNeeded(ANSWERS) },
    Entry { names: "global-auth-request-redirect", outcome: NotNeeded(ORIGINAL_URI) },
    Entry {
        names: "no-auth-locations",
        outcome: NotNeeded("`auth.forward` is asked about streams alone, and a route may be `public: true`"),
    },
    Entry {
        names: "proxy-buffering proxy-buffers-number proxy-buffer-size proxy-busy-buffers-size \
                proxy-max-temp-file-size",
        outcome: NotNeeded(BUFFERING),
    },
    Entry {
        names: "proxy-request-buffering client-body-buffer-size client-body-timeout",
        outcome: NotNeeded("request bodies pass unbuffered"),
    },
    Entry {
        names: "proxy-next-upstream-timeout",
        outcome: NotNeeded(
            "attempts are bounded by their number (`upstream.retries`) and by `upstream.connect_timeout`",
        ),
    },
    Entry {
        names: "retry-non-idempotent",
        outcome: NotNeeded("a request with a body is retried only if none of it was sent, for any method"),
    },
    Entry {
        names: "proxy-http-version",
        outcome: NotNeeded("sidestream speaks HTTP/1.1 to the service and keeps connections"),
    },
    Entry {
        names: "upstream-keepalive-requests upstream-keepalive-time",
        outcome: NotNeeded(
            "connections to the service are within the pod; unused ones are kept for `upstream.keepalive`",
        ),
    },
    Entry {
        names: "client-header-buffer-size large-client-header-buffers http2-max-field-size http2-max-header-size",
        outcome: NotNeeded(HEADS),
    },
    Entry {
        names: "keep-alive-requests http2-max-requests",
        outcome: NotNeeded("sidestream does not limit requests per connection"),
    },
    Entry { names: "upstream-hash-by", outcome: NotNeeded("streams resume by cursor on any replica") },
    Entry {
        names: "enable-aio-write enable-multi-accept limit-conn-zone-variable lua-shared-dicts map-hash-bucket-size \
                max-worker-connections max-worker-open-files proxy-headers-hash-bucket-size \
                proxy-headers-hash-max-size reuse-port server-name-hash-bucket-size server-name-hash-max-size \
                variables-hash-bucket-size variables-hash-max-size worker-cpu-affinity worker-processes",
        outcome: NotNeeded(PROCESS),
    },
    Entry {
        names: "allow-cross-namespace-resources allow-snippet-annotations annotation-value-word-blocklist \
                annotations-risk-level debug-connections disable-ipv6-dns enable-serial-reloads \
                nginx-status-ipv4-whitelist nginx-status-ipv6-whitelist plugins strict-validate-path-type",
        outcome: NotNeeded(CONTROLLER),
    },
    Entry {
        names: "datadog-collector-host datadog-collector-port datadog-environment datadog-operation-name-override \
                datadog-priority-sampling datadog-sample-rate datadog-service-name enable-dynamic-tls-records \
                enable-opentracing enable-vts-status global-rate-limit-memcached-connect-timeout \
                global-rate-limit-memcached-host global-rate-limit-memcached-max-idle-timeout \
                global-rate-limit-memcached-pool-size global-rate-limit-memcached-port global-rate-limit-status-code \
                jaeger-baggage-header jaeger-collector-host jaeger-collector-port jaeger-debug-header \
                jaeger-endpoint jaeger-propagation-format jaeger-sampler-host jaeger-sampler-param \
                jaeger-sampler-port jaeger-sampler-type jaeger-service-name jaeger-trace-baggage-header-prefix \
                jaeger-trace-context-header-name opentracing-location-operation-name opentracing-operation-name \
                opentracing-trust-incoming-span use-geoip zipkin-collector-host zipkin-collector-port \
                zipkin-sample-rate zipkin-service-name",
        outcome: NotNeeded(REMOVED),
    },
    // Left to the gateway
    Entry {
        names: "proxy-body-size",
        outcome: Gateway("limit bodies at the gateway; sidestream forwards them regardless of size"),
    },
    Entry {
        names: "compute-full-forwarded-for enable-real-ip forwarded-for-header forwarded-for-proxy-protocol-header \
                proxy-protocol-header-timeout proxy-real-ip-cidr use-forwarded-headers use-proxy-protocol",
        outcome: Gateway(TRUST),
    },
    Entry {
        names: "bind-address bind-address-ipv4 bind-address-ipv6 disable-ipv6",
        outcome: Gateway("the listener of the gateway; sidestream has `listen`"),
    },
    Entry {
        names: "load-balance service-upstream",
        outcome: Gateway("balance at the gateway; sidestream has one service, the one in its pod"),
    },
    Entry {
        names: "add-headers allow-backend-server-header default-type enable-underscores-in-headers \
                generate-request-id global-allowed-response-headers hide-headers ignore-invalid-headers \
                proxy-add-original-uri-header proxy-cookie-domain proxy-cookie-path proxy-set-headers server-tokens",
        outcome: Gateway(HEADERS),
    },
    Entry {
        names: "app-root force-ssl-redirect http-redirect-code no-tls-redirect-locations preserve-trailing-slash \
                proxy-redirect-from proxy-redirect-to relative-redirects ssl-redirect use-port-in-redirects",
        outcome: Gateway(REDIRECTS),
    },
    Entry {
        names: "enable-ocsp hsts hsts-include-subdomains hsts-max-age hsts-preload proxy-ssl-location-only \
                ssl-buffer-size ssl-ciphers ssl-dh-param ssl-early-data ssl-ecdh-curve ssl-protocols \
                ssl-reject-handshake ssl-session-cache ssl-session-cache-size ssl-session-ticket-key \
                ssl-session-tickets ssl-session-timeout",
        outcome: Gateway(TLS),
    },
    Entry { names: "http2-max-concurrent-streams use-http2", outcome: Gateway(HTTP2) },
    Entry {
        names: "brotli-level brotli-min-length brotli-types enable-brotli gzip-disable gzip-level gzip-min-length \
                gzip-types use-gzip",
        outcome: Gateway(COMPRESSION),
    },
    Entry {
        names: "access-log-params access-log-path disable-access-log disable-http-access-log \
                disable-stream-access-log enable-access-log-for-default-backend enable-auth-access-log enable-syslog \
                error-log-level error-log-path http-access-log-path log-format-escape-json log-format-escape-none \
                log-format-stream log-format-upstream skip-access-log-urls stream-access-log-path syslog-host \
                syslog-port",
        outcome: Gateway(LOGS),
    },
    Entry {
        names: "enable-opentelemetry opentelemetry-config opentelemetry-operation-name \
                opentelemetry-trust-incoming-span otel-max-export-batch-size otel-max-queuesize otel-sampler \
                otel-sampler-parent-based otel-sampler-ratio otel-schedule-delay-millis otel-service-name \
                otlp-collector-host otlp-collector-port",
        outcome: Gateway(TRACING),
    },
    Entry { names: "global-auth-signin global-auth-signin-redirect-param", outcome: Gateway(SIGN_IN) },
    Entry {
        names: "block-cidrs block-referers block-user-agents denylist-source-range geoip2-autoreload-in-minutes \
                use-geoip2 whitelist-source-range",
        outcome: Gateway(BLOCKING),
    },
    Entry {
        names: "limit-conn-status-code limit-rate limit-rate-after limit-req-status-code",
        outcome: Gateway(LIMITS),
    },
    Entry { names: "custom-http-errors disable-proxy-intercept-errors", outcome: Gateway(ERRORS) },
    Entry {
        names: "enable-modsecurity enable-owasp-modsecurity-crs modsecurity-snippet",
        outcome: Gateway(MODSECURITY),
    },
    Entry {
        names: "grpc-buffer-size-kb",
        outcome: Gateway("sidestream speaks HTTP/1.1 to the service; route gRPC past it, to the service's own port"),
    },
    Entry {
        names: "proxy-stream-next-upstream proxy-stream-next-upstream-timeout proxy-stream-next-upstream-tries \
                proxy-stream-responses proxy-stream-timeout",
        outcome: Gateway(TCP),
    },
];
