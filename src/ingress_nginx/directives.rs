//! The nginx directives that occur in snippets, and their outcomes.
//!
//! The table has the directives that make sense in a snippet, from the documentation of nginx and of the modules that
//! ingress-nginx includes. The outcome of some depends on their arguments; see `directive_outcome`.

use super::outcome::Outcome::{Gateway, Mapped, NotNeeded};
use super::outcome::{Entry, Outcome, find};
use super::setting::Setting;

const ACCESS: &str = "allow, deny and authenticate at the gateway";
const BUFFERING: &str = "sidestream neither buffers nor caches: responses pass unbuffered";
const HEADERS: &str = "change headers at the gateway, or let the service set them";
const LIMITS: &str = "limit at the gateway";
const LOGS: &str = "logs are the gateway's";
const LUA: &str = "a script of the gateway's; nothing here runs code";
const ROUTING: &str = "routing, rewriting, redirecting and caching are the gateway's";
const TLS: &str = "TLS is the gateway's";

/// Headers with the value that sidestream would set.
const OWN_HEADERS: &str = "sidestream does so by itself: it passes on `Host` and upgrades, sets `X-Forwarded-*` as \
                           `forwarded.trust` says, and marks streams as not to be buffered, cached or transformed";

pub(super) const DIRECTIVES: &[Entry] = &[
    Entry { names: "proxy_connect_timeout", outcome: Mapped(Setting::ConnectTimeout) },
    Entry { names: "proxy_read_timeout", outcome: Mapped(Setting::ReadTimeout) },
    Entry { names: "proxy_send_timeout", outcome: Mapped(Setting::WriteTimeout) },
    Entry { names: "proxy_next_upstream proxy_next_upstream_tries", outcome: Mapped(Setting::Retries) },
    Entry { names: "client_header_timeout", outcome: Mapped(Setting::HeaderTimeout) },
    Entry { names: "keepalive_timeout", outcome: Mapped(Setting::IdleTimeout) },
    Entry { names: "worker_shutdown_timeout", outcome: Mapped(Setting::DrainBudget) },
    Entry {
        names: "proxy_buffer_size proxy_buffering proxy_buffers proxy_busy_buffers_size \
                proxy_ignore_headers proxy_max_temp_file_size \
                proxy_request_buffering proxy_temp_file_write_size client_body_buffer_size client_body_timeout \
                postpone_output",
        outcome: NotNeeded(BUFFERING),
    },
    Entry {
        names: "chunked_transfer_encoding proxy_http_version proxy_socket_keepalive tcp_nodelay tcp_nopush",
        outcome: NotNeeded("sidestream speaks HTTP/1.1 both ways, with chunks and without delay"),
    },
    Entry {
        names: "send_timeout reset_timedout_connection lingering_close lingering_time lingering_timeout",
        outcome: NotNeeded(
            "a client that does not read costs its queue (`queue`), and is cut off after the route's `stall_timeout`",
        ),
    },
    Entry {
        names: "client_header_buffer_size large_client_header_buffers",
        outcome: NotNeeded("fixed: a request head has at most 64 KiB and 100 fields"),
    },
    Entry {
        names: "proxy_next_upstream_timeout",
        outcome: NotNeeded(
            "attempts are bounded by their number (`upstream.retries`) and by `upstream.connect_timeout`",
        ),
    },
    Entry { names: "proxy_ignore_client_abort", outcome: NotNeeded("a stream that its client has left ends") },
    Entry { names: "sticky ip_hash hash", outcome: NotNeeded("streams resume by cursor on any replica") },
    Entry {
        names: "keepalive_requests proxy_headers_hash_bucket_size proxy_headers_hash_max_size \
                server_names_hash_bucket_size server_names_hash_max_size map_hash_bucket_size map_hash_max_size \
                variables_hash_bucket_size variables_hash_max_size types_hash_max_size open_file_cache \
                output_buffers sendfile aio directio worker_processes worker_connections worker_rlimit_nofile \
                worker_priority multi_accept events use pcre_jit load_module env",
        outcome: NotNeeded("sidestream has no such thing to tune"),
    },
    Entry {
        names: "gzip gzip_comp_level gzip_disable gzip_min_length gzip_proxied gzip_types gzip_vary brotli \
                brotli_types brotli_comp_level gunzip",
        outcome: Gateway("compress at the gateway; sidestream marks its streams `no-transform`, which excludes them"),
    },
    Entry {
        names: "client_max_body_size",
        outcome: Gateway("limit bodies at the gateway; sidestream forwards them regardless of size"),
    },
    Entry {
        names: "add_header add_trailer etag expires more_clear_headers more_clear_input_headers more_set_headers \
                more_set_input_headers proxy_cookie_domain proxy_cookie_flags proxy_cookie_path proxy_hide_header \
                proxy_pass_header proxy_pass_request_headers proxy_pass_request_body proxy_set_body proxy_set_header \
                server_tokens underscores_in_headers ignore_invalid_headers default_type charset sub_filter \
                sub_filter_once sub_filter_types userid grpc_set_header",
        outcome: Gateway(HEADERS),
    },
    Entry {
        names: "absolute_redirect alias autoindex break error_page geo geoip2 if include index internal limit_except \
                listen location log_not_found map merge_slashes mirror mirror_request_body port_in_redirect \
                proxy_bind proxy_intercept_errors proxy_method proxy_pass proxy_redirect recursive_error_pages \
                resolver resolver_timeout return rewrite rewrite_log root server server_name server_name_in_redirect \
                set split_clients try_files types upstream zone keepalive least_conn grpc_pass grpc_read_timeout \
                grpc_send_timeout grpc_connect_timeout grpc_socket_keepalive fastcgi_pass fastcgi_param \
                fastcgi_read_timeout uwsgi_pass uwsgi_read_timeout proxy_cache proxy_cache_bypass \
                proxy_no_cache proxy_cache_path proxy_cache_key \
                proxy_cache_valid proxy_cache_lock proxy_cache_use_stale proxy_cache_methods proxy_cache_min_uses \
                proxy_cache_revalidate proxy_cache_background_update proxy_timeout proxy_protocol proxy_responses \
                ssl_preread stub_status",
        outcome: Gateway(ROUTING),
    },
    Entry {
        names: "limit_conn limit_conn_log_level limit_conn_status limit_conn_zone limit_rate limit_rate_after \
                limit_req limit_req_log_level limit_req_status limit_req_zone",
        outcome: Gateway(LIMITS),
    },
    Entry {
        names: "allow auth_basic auth_basic_user_file auth_jwt auth_request auth_request_set deny real_ip_header \
                real_ip_recursive satisfy secure_link secure_link_md5 set_real_ip_from valid_referers modsecurity \
                modsecurity_rules modsecurity_rules_file modsecurity_transaction_id",
        outcome: Gateway(ACCESS),
    },
    Entry {
        names: "access_log error_log log_format log_subrequest opentelemetry opentelemetry_attribute \
                opentelemetry_operation_name opentelemetry_propagate opentelemetry_trust_incoming_spans opentracing \
                opentracing_tag opentracing_propagate_context",
        outcome: Gateway(LOGS),
    },
    Entry {
        names: "proxy_ssl_ciphers proxy_ssl_name proxy_ssl_protocols proxy_ssl_server_name proxy_ssl_session_reuse \
                proxy_ssl_trusted_certificate proxy_ssl_verify proxy_ssl_verify_depth proxy_ssl_certificate \
                proxy_ssl_certificate_key ssl_certificate ssl_certificate_key ssl_ciphers ssl_client_certificate \
                ssl_early_data ssl_ecdh_curve ssl_prefer_server_ciphers ssl_protocols ssl_reject_handshake \
                ssl_session_cache ssl_session_tickets ssl_session_timeout ssl_stapling ssl_stapling_verify \
                ssl_verify_client ssl_verify_depth http2 http2_max_concurrent_streams http2_push_preload",
        outcome: Gateway(TLS),
    },
    Entry {
        names: "access_by_lua access_by_lua_block access_by_lua_file balancer_by_lua_block body_filter_by_lua \
                body_filter_by_lua_block content_by_lua content_by_lua_block content_by_lua_file \
                header_filter_by_lua header_filter_by_lua_block init_by_lua_block init_worker_by_lua_block \
                log_by_lua_block lua_package_path lua_shared_dict rewrite_by_lua rewrite_by_lua_block \
                rewrite_by_lua_file set_by_lua set_by_lua_block js_content js_import js_set perl",
        outcome: Gateway(LUA),
    },
];

/// The outcome of a directive.
pub(super) fn directive_outcome(name: &str, arguments: &[String]) -> Option<Outcome> {
    let first = arguments.first().map(String::as_str);
    let is_own = match (name, first) {
        ("gzip" | "brotli", Some("off")) => return Some(NotNeeded("streams are not compressed")),
        ("proxy_cache", Some("off")) => return Some(NotNeeded(BUFFERING)),
        ("map", Some("$http_upgrade")) => return Some(NotNeeded("`Upgrade: websocket` is passed on")),
        ("proxy_set_header", Some(header)) => is_own_request_header(header, &arguments[1..]),
        ("add_header", Some(header)) => is_own_response_header(header, &arguments[1..].join(" ")),
        ("more_set_headers", Some(_)) => arguments.iter().all(|field| {
            let (header, value) = field.split_once(':').unwrap_or((field, ""));
            is_own_response_header(header.trim(), value)
        }),
        _ => false,
    };
    if is_own { Some(NotNeeded(OWN_HEADERS)) } else { find(DIRECTIVES, name) }
}

/// How many leading arguments of a directive cannot contain a secret: paths of a `location`; switches, sizes and times;
/// names of headers and variables.
pub(super) fn public_arguments(name: &str, arguments: &[String]) -> usize {
    const NAMES: [&str; 8] = [
        "add_header",
        "add_trailer",
        "grpc_set_header",
        "map",
        "proxy_hide_header",
        "proxy_pass_header",
        "proxy_set_header",
        "set",
    ];
    let is_plain = match directive_outcome(name, arguments) {
        Some(NotNeeded(why)) => why != OWN_HEADERS,
        Some(Mapped(_)) => true,
        _ => name == "location",
    };
    match name {
        _ if is_plain => arguments.len(),
        _ if NAMES.contains(&name) => 1,
        _ => 0,
    }
}

/// Whether sidestream sets or forwards this request header in the same way. A fixed value is a different setting.
fn is_own_request_header(header: &str, value: &[String]) -> bool {
    let header = header.to_ascii_lowercase();
    match header.as_str() {
        "connection" | "upgrade" | "x-accel-buffering" => true,
        "host" | "x-forwarded-for" | "x-forwarded-host" | "x-forwarded-proto" => {
            value.iter().all(|value| value.starts_with('$'))
        }
        _ => false,
    }
}

/// Whether sidestream sets this header on every stream.
fn is_own_response_header(header: &str, value: &str) -> bool {
    match header.to_ascii_lowercase().as_str() {
        "x-accel-buffering" => true,
        "cache-control" => ["no-cache", "no-store", "no-transform"].iter().any(|word| value.contains(word)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_redundant_only_with_the_values_that_sidestream_sets() {
        let is_ours = |directive: &str| {
            let words: Vec<String> = directive.split('|').map(String::from).collect();
            directive_outcome(&words[0], &words[1..]) == Some(NotNeeded(OWN_HEADERS))
        };
        let ours = [
            "proxy_set_header|Connection|upgrade",
            "proxy_set_header|Host|$http_host",
            "add_header|X-Accel-Buffering|no",
            "add_header|Cache-Control|no-cache, private",
            "more_set_headers|X-Accel-Buffering: no|Cache-Control: no-store",
        ];
        let others = [
            "proxy_set_header|Host|other.example",
            "proxy_set_header|X-Tenant|$tenant",
            "add_header|Cache-Control|public, max-age=600",
            "more_set_headers|X-Accel-Buffering: no|X-Frame-Options: DENY",
            "more_set_headers",
        ];
        assert!(ours.iter().all(|directive| is_ours(directive)));
        assert!(!others.iter().any(|directive| is_ours(directive)));
    }
}
