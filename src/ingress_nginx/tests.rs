//! Tests the whole import: manifests with their expected results.
//!
//! `SIDESTREAM_UPDATE=1 cargo test --lib ingress` rewrites the golden files and the tables in `docs/migration.md`.

use std::path::{Path, PathBuf};

use super::{Class, annotations, import};
use crate::config;

/// If set, expected files are rewritten instead of compared.
pub(super) const UPDATE: &str = "SIDESTREAM_UPDATE";

pub(super) fn path(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(file)
}

pub(super) fn read(file: &str) -> String {
    std::fs::read_to_string(path(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// The names of the manifests in `tests/ingress`.
fn manifests() -> Vec<String> {
    let files = std::fs::read_dir(path("tests/ingress")).unwrap();
    let names = files.filter_map(|file| Some(file.unwrap().file_name().to_str()?.strip_suffix(".yaml")?.to_owned()));
    let mut names: Vec<_> = names.collect();
    names.sort_unstable();
    names
}

/// Asserts that `check` rejects every placeholder, and accepts the configuration once they are filled in.
fn assert_filled_in(written: &str) {
    let parse = |text: &str| config::parse(text, "written", Path::new(""));
    let left = parse(written).unwrap_err().diagnostics();
    let placeholders =
        written.lines().filter(|line| !line.trim_start().starts_with('#') && line.contains(": REPLACE-")).count();
    assert!(left.len() >= placeholders && placeholders >= 2, "{left:?}\n{written}");
    assert!(left.iter().all(|mistake| mistake.message.contains("placeholder")), "{left:?}\n{written}");
    let filled = written
        .replace("REPLACE-true-or-false", "true")
        .replace("topics: [REPLACE-", "topics: [t-")
        .replace("REPLACE-", "");
    let config = parse(&filled);
    assert!(config.is_ok(), "{}\n{filled}", config.unwrap_err());
}

#[test]
fn manifests_yield_the_expected_files() {
    let manifests = manifests();
    assert!(manifests.len() >= 30, "{manifests:?}");
    let mut wrong = Vec::new();
    for name in &manifests {
        let import =
            import(&read(&format!("tests/ingress/{name}.yaml"))).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_filled_in(&import.configuration);
        let report = format!("{}\n", import.report);
        for (file, text) in [(format!("{name}.yaml"), &import.configuration), (format!("{name}.txt"), &report)] {
            let golden = path("tests/ingress/golden").join(&file);
            if std::env::var_os(UPDATE).is_some() {
                std::fs::write(&golden, text).unwrap();
            } else if std::fs::read_to_string(&golden).unwrap_or_default() != *text {
                wrong.push(format!("{file} is now:\n{text}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(100))]

    /// Any annotation, path or rewrite target yields a result that `check` accepts.
    #[test]
    fn any_text_yields_a_result(snippet in ".{0,80}", path in "[/a-z(){}\\[\\]$|.*+^?0-9%-]{0,30}(/events)?", target in "[/a-z$0-9]{0,10}") {
        let [snippet, path, target] = [snippet, path, target].map(|text| serde_json::json!(text).to_string());
        let prefix = annotations::PREFIX;
        let annotations = format!("{prefix}server-snippet: {snippet}, {prefix}rewrite-target: {target}");
        for annotations in [annotations.as_str(), ""] {
            let text = ingress(annotations, &format!("{{ path: {path} }}"));
            // YAML forbids some characters, quoted or not.
            if let Ok(import) = import(&text) {
                assert_filled_in(&import.configuration);
            }
        }
    }
}

/// Every snippet, annotation and key has a line in the report.
#[test]
fn every_setting_has_a_line_in_the_report() {
    for name in manifests() {
        let text = read(&format!("tests/ingress/{name}.yaml"));
        let report = import(&text).unwrap().report.to_string();
        if report.contains("nothing of it was read") {
            continue;
        }
        for line in text.lines().filter(|line| !line.trim_start().starts_with('#')) {
            if let Some((annotation, _)) = line
                .trim()
                .split_once("nginx.ingress.kubernetes.io/")
                .map(|(_, rest)| rest)
                .and_then(|rest| rest.split_once(':'))
            {
                let annotation = annotation.trim_matches('"');
                assert!(report.contains(&format!(", {annotation}")), "{name}: {annotation}\n{report}");
            }
        }
    }
}

fn lines(text: &str) -> Vec<String> {
    let import = import(text).unwrap();
    import.report.to_string().lines().map(String::from).collect()
}

/// An Ingress of ingress-nginx with these annotations and paths, as flow mappings.
fn ingress(annotations: &str, paths: &str) -> String {
    format!(
        "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {{ name: x, annotations: {{ {annotations} }} }}\n\
         spec: {{ ingressClassName: nginx, rules: [ {{ http: {{ paths: [ {paths} ] }} }} ] }}\n"
    )
}

#[track_caller]
fn assert_line(text: &str, expected: &str) {
    let lines = lines(text);
    assert!(lines.iter().any(|line| line.contains(expected)), "no {expected:?} in\n{}", lines.join("\n"));
}

#[test]
fn typos_and_annotations_of_other_products_are_reported() {
    let cases = [
        (
            "nginx.ingress.kubernetes.io/proxy-read-timout: '60'",
            "unknown: Ingress x, proxy-read-timout (line 3): no setting of ingress-nginx (did you mean `proxy-read-timeout`?)",
        ),
        ("nginx.ingress.kubernetes.io/proxy-read-timeout: soon", "`soon`: not a time as nginx writes it"),
        ("nginx.ingress.kubernets.io/proxy-read-timeout: '60'", "(did you mean `nginx.ingress.kubernetes.io`?)"),
        ("nginx.org/proxy-read-timeout: 60s", "of F5's NGINX Ingress Controller"),
        ("ingress.kubernetes.io/proxy-body-size: 8m", "the prefix of ingress-nginx before 0.9"),
        ("proxy-body-size: 8m", "it lacks the prefix"),
        ("nginx.internal/proxy-body-size: 8m", "--annotations-prefix=nginx.internal"),
        ("example.com/team: blue", "no annotation of ingress-nginx"),
        (
            "nginx.ingress.kubernetes.io/proxy-read-timeout: 60s",
            "warning: Ingress x, proxy-read-timeout (line 3): ingress-nginx takes a bare number",
        ),
        (
            "nginx.ingress.kubernetes.io/proxy-read-timeout: 60",
            "warning: Ingress x, nginx.ingress.kubernetes.io/proxy-read-timeout (line 3): found a number where",
        ),
    ];
    for (annotation, expected) in cases {
        assert_line(&ingress(annotation, ""), expected);
    }
}

#[test]
fn the_class_determines_the_controller() {
    let class = |class: &str| ingress("", "").replace("ingressClassName: nginx, ", class);
    assert_line(&class("ingressClassName: traefik, "), "`traefik` is another controller's class");
    assert_line(&class("ingressClassName: nginx-internal, "), "whether `nginx-internal` is a class of ingress-nginx");
    assert_line(&class(""), "it names no class");
    let declared = |controller: &str| {
        format!(
            "{}---\napiVersion: networking.k8s.io/v1\nkind: IngressClass\nmetadata: {{ name: edge }}\nspec: {{ controller: {controller} }}\n",
            class("ingressClassName: edge, ")
        )
    };
    assert_line(&declared("nginx.org/ingress-controller"), "`edge` is a class of `nginx.org/ingress-controller`");
    assert!(lines(&declared("k8s.io/ingress-nginx")).iter().all(|line| !line.starts_with("warning")));
}

#[test]
fn lines_of_a_snippet_are_lines_of_the_input() {
    let annotations = "metadata:\n  name: x\n  annotations:\n    nginx.ingress.kubernetes.io/configuration-snippet: |\n      # why\n\n      \
                       proxy_bufering off;\n      proxy_read_timeout \"5m;\n";
    let text = ingress("", "").replace("metadata: { name: x, annotations: {  } }\n", annotations);
    assert_line(
        &text,
        "configuration-snippet: proxy_bufering ... (line 9): no directive of nginx that is known here (did you mean `proxy_buffering`?)",
    );
    assert_line(&text, "configuration-snippet (line 10): a quote is opened and not closed");
}

#[test]
fn lines_are_right_however_a_snippet_is_written() {
    let cases = [
        ("|\n      nonsense;\n", 5),
        ("|\n\n\n      nonsense;\n", 7),
        ("|-\n      # why\n      nonsense;\n", 6),
        ("|2\n      nonsense;\n", 5),
        (">\n      gzip off;\n      nonsense;\n", 5),
        ("\"gzip off;\\nnonsense;\"\n", 4),
        ("\"gzip off;\\nnonsense;\\n\n      gzip off;\"\n", 4),
        ("nonsense;\n", 4),
    ];
    let mut wrong = Vec::new();
    for (written, line) in cases {
        let annotation =
            format!("metadata:\n  annotations:\n    nginx.ingress.kubernetes.io/server-snippet: {written}");
        let text = format!("{annotation}kind: Ingress\napiVersion: networking.k8s.io/v1\n");
        let text = format!("\n{text}");
        let lines = lines(&text);
        let expected = format!("server-snippet: nonsense (line {line})");
        if !lines.iter().any(|line| line.contains(&expected)) {
            wrong.push(format!("{written:?}: {expected}: {}", lines.join("\n")));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn errors_have_a_position() {
    let cases = [
        ("a: [b\n", "1:4: not valid YAML"),
        ("---\n- a\n", "2:1: found a list, not a Kubernetes object"),
        ("kind: Ingress\n", "1:1: not a Kubernetes object: it has no `kind` and `apiVersion`"),
        ("apiVersion: v1\nkind: List\nitems:\n  - x\n", "4:5: found `x`, not a Kubernetes object"),
        ("a:\n\tb: c\n", "2:"),
    ];
    for (text, expected) in cases {
        let error = import(text).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{text:?}: {error}");
    }
}

#[test]
fn the_longest_time_and_the_fewest_attempts_are_taken() {
    let one = ingress(
        "nginx.ingress.kubernetes.io/proxy-read-timeout: '60', nginx.ingress.kubernetes.io/proxy-next-upstream: 'off'",
        "",
    );
    let other = ingress(
        "nginx.ingress.kubernetes.io/proxy-read-timeout: '90', nginx.ingress.kubernetes.io/proxy-next-upstream-tries: '3'",
        "",
    );
    let general = "apiVersion: v1\nkind: ConfigMap\nmetadata: { name: c }\ndata: { proxy-read-timeout: '600' }\n";
    let text = format!("{general}---\n{one}---\n{other}");
    let written = import(&text).unwrap().configuration;
    assert!(written.contains("\n  read_timeout: 90s # Ingress x, proxy-read-timeout (line 13)\n"), "{written}");
    assert!(written.contains("\n  retries: 0 # "), "{written}");
    assert_line(
        &text,
        "mapped: ConfigMap c, proxy-read-timeout (line 4): `upstream.read_timeout: 90s` of line 13 was taken; it says 10m",
    );
}

/// More documents than the parser's default limit.
#[test]
fn thousands_of_documents_are_accepted() {
    let documents = vec![ingress("nginx.ingress.kubernetes.io/proxy-read-timeout: '60'", ""); 2_000].join("---\n");
    assert_eq!(import(&documents).unwrap().report.count(Class::Mapped), 2_000);
}

#[test]
fn hostile_names_stay_in_their_comments() {
    let path = r#"{ path: "/a\n\nlisten: 1/events", pathType: Exact, backend: { service: { name: "s\nx: y", port: { number: 1 } } } }"#;
    let text = ingress("", &format!(r#"{path}, {{ path: /b/events, backend: {{ service: {{ name: "s\nx: y" }} }} }}"#));
    let text = text.replace("name: x,", r#"name: "x\ny: 1","#);
    let written = import(&text).unwrap().configuration;
    assert_filled_in(&written);
    assert!(!written.contains("\ny: 1") && !written.contains("\nx: y"), "{written}");
}

#[test]
fn the_report_quotes_nothing_that_can_hold_a_secret() {
    let snippet = [
        "proxy_set_header Authorization 'Basic s3cr3t';",
        "more_set_headers 'X-Key: s3cr3t';",
        "add_header X-Accel-Buffering 'no s3cr3t';",
        "set $token s3cr3t;",
        "proxy_pass http://u:s3cr3t@service;",
        "if ($http_x_key = s3cr3t) { proxy_read_timeout 5s; return 200 s3cr3t; }",
        "unknown_directive s3cr3t;",
    ];
    let keys = [format!("configuration-snippet: \"{}\"", snippet.join(" ")), "auth-token: s3cr3t".into()];
    let annotations: String = keys.iter().map(|key| format!("    nginx.ingress.kubernetes.io/{key}\n")).collect();
    let ingress = format!(
        "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata:\n  name: a\n  annotations:\n{annotations}    \
         nginx.ingress.kubernetes.io/proxy-body-size: 53537\n"
    );
    let imported = import(&ingress).unwrap();
    let output = format!("{}\n{}", imported.report, imported.configuration);
    assert!(output.contains("proxy_set_header Authorization ...") && output.contains("within `if`"), "{output}");
    assert!(!output.contains("s3cr3t") && !output.contains("53537"), "{output}");
}

#[test]
fn a_login_becomes_forward_auth() {
    let path = "{ path: /events, backend: { service: { name: s } } }";
    let with = |lines: &str| ingress(&lines.replace('~', annotations::PREFIX), path);
    let url = "~auth-url: 'http://auth.default/verify?x=1'";
    let written = |lines: &str| import(&with(lines)).unwrap().configuration;
    assert!(written(url).contains("url: \"http://auth.default/verify?x=1\""));
    for left_out in ["https://$host/oauth2/auth", "http://me:pass@auth/verify", "not a URL"] {
        let configuration = written(&format!("~auth-url: '{left_out}'"));
        assert!(configuration.contains("url: \"REPLACE-https://login.example/"), "{configuration}");
        assert!(!configuration.contains("pass"), "{configuration}");
    }
    let claims = written(&format!("{url}, ~auth-response-headers: 'X-Auth-Request-Email,X-User,Authorization,X Y'"));
    assert!(claims.contains("      email: X-Auth-Request-Email\n      user: X-User\n"), "{claims}");
    for (duration, expected) in [("200 202 401 5m", "cache: 1m"), ("401 30s, 200 5s", "cache: 5s"), ("7s", "cache: 7s")]
    {
        let cached = written(&format!("{url}, ~auth-cache-duration: '{duration}'"));
        assert!(cached.contains(expected), "{cached}");
    }
    for (lines, expected) in [
        ("~auth-cache-duration: '200 5s'", "without a URL of a service it has no effect"),
        ("~auth-url: 'http://a/', ~auth-cache-duration: '401 5s'", "no time for positive answers"),
        (
            "~auth-url: 'http://a/', ~auth-method: POST",
            "unknown: Ingress x, auth-method (line 3): the service is asked with GET",
        ),
        ("~auth-url: 'http://a/', ~auth-signin: 'http://a/in'", "stays at the gateway: Ingress x, auth-signin"),
        ("~auth-url: 'http://a/'", "`auth.forward` asks the same service"),
    ] {
        assert_line(&with(lines), expected);
    }
    let config_map = |lines: &str| {
        format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{ name: ingress-nginx-controller }}\ndata: {{ {lines} }}\n---\n"
        )
    };
    let of_all = config_map(
        "global-auth-cache-duration: '200 5s', global-auth-response-headers: X-User, global-auth-url: 'http://all/'",
    );
    let configured = import(&format!("{of_all}{}", with(""))).unwrap().configuration;
    for line in ["url: \"http://all/\"", "      user: X-User", "cache: 5s"] {
        assert!(configured.contains(line), "{configured}");
    }
    assert_line(&format!("{of_all}{}", with("")), "global-auth-url asked for a login");
    let own = import(&format!("{of_all}{}", with("~auth-url: 'http://own/'"))).unwrap().configuration;
    assert!(own.contains("url: \"http://own/\"") && !own.contains("X-User"), "{own}");
    let excepted = format!("{of_all}{}", with("~enable-global-auth: 'false'"));
    assert!(!lines(&excepted).iter().any(|line| line.contains("asked for a login")));
    assert_line(&config_map("global-auth-method: GET"), "without a URL of a service it has no effect");
    let other = with("~auth-url: 'http://b/'").replace("name: x,", "name: y,");
    assert_line(&format!("{}---\n{other}", with("~auth-url: 'http://a/'")), "sidestream asks one service");
}

#[test]
fn cors_becomes_the_policy_of_streams() {
    let path = "{ path: /events, backend: { service: { name: s } } }";
    let with = |lines: &str| ingress(&lines.replace('~', annotations::PREFIX), path);
    for (lines, expected) in [
        ("~enable-cors: 'true'", "cors: { origins: [\"*\"] }"),
        (
            "~enable-cors: 'true', ~cors-allow-origin: 'https://a.example, x, https://a.example'",
            "cors: { origins: [\"https://a.example\"], credentials: true }",
        ),
        (
            "~enable-cors: 'true', ~cors-allow-origin: 'https://a.example', ~cors-allow-credentials: 'false', \
             ~cors-allow-headers: 'X-Tenant,*', ~cors-max-age: '9999999'",
            "cors: { origins: [\"https://a.example\"], headers: [\"X-Tenant\"], max_age: 24h }",
        ),
    ] {
        let configuration = import(&with(lines)).unwrap().configuration;
        assert!(configuration.contains(expected), "{configuration}");
        assert_filled_in(&configuration);
    }
    for (lines, expected) in [
        ("~cors-allow-origin: 'https://a.example'", "without `enable-cors` it has no effect"),
        ("~enable-cors: 'true', ~cors-allow-origin: 'null'", "unknown: Ingress x, cors-allow-origin"),
        ("~enable-cors: 'true', ~cors-allow-headers: 'X Y'", "unknown: Ingress x, cors-allow-headers"),
        ("~enable-cors: 'true', ~cors-max-age: soon", "`soon`: not a number of seconds"),
    ] {
        assert_line(&with(lines), expected);
    }
}
