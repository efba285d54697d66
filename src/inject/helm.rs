//! The named templates of the Helm charts: the definition, with expressions of Helm in place of the names.

use std::fmt::Write as _;

use super::sidecar::Sidecar;
use super::{Error, Names, UPSTREAM_PORT};

const HEAD: &str = "\
{{- /*
The sidecar as named templates. Their context is a map with the optional keys `image`, `configMap`, `secret` and
`upstreamPort`. Printed by `sidestream inject --print helm`; don't edit it.
*/}}
";

/// The file `_sidecar.tpl` of the library chart.
///
/// # Errors
///
/// A name contains an invalid character.
pub fn helm(names: &Names) -> Result<String, Error> {
    let plain = Sidecar::new(names)?;
    let sidecar = Sidecar::new(&Names {
        image: or_default("image", &names.image),
        config_map: or_default("configMap", &names.config_map),
        secret: or_default("secret", &names.secret),
    })?;
    let mut text = HEAD.to_owned();
    text += &define("annotations", &annotations(&plain));
    text += &define("initContainers", &sidecar.items("initContainers").block);
    text += &define("volumes", &sidecar.items("volumes").block);
    text += &define("terminationGracePeriodSeconds", &plain.grace().to_string());
    for (name, port) in ["port", "adminPort"].iter().zip(plain.ports()) {
        text += &define(name, &port.to_string());
    }
    Ok(text)
}

/// In backquotes, because the definition has the names between double quotes.
fn or_default(key: &str, default: &str) -> String {
    format!("{{{{ .{key} | default `{default}` }}}}")
}

fn define(name: &str, body: &str) -> String {
    format!("\n{{{{- define \"sidestream.{name}\" -}}}}\n{}\n{{{{- end }}}}\n", body.trim_end())
}

fn annotations(sidecar: &Sidecar) -> String {
    let mut text = String::new();
    for (key, value) in sidecar.annotations() {
        let _ = writeln!(text, "{key}: \"{value}\"");
    }
    let _ = write!(text, "{{{{- with .upstreamPort }}}}\n{UPSTREAM_PORT}: \"{{{{ . }}}}\"\n{{{{- end }}}}");
    text
}
