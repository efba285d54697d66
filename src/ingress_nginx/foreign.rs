//! Annotations of other products: the owner by prefix, or the annotation that was probably meant.

use super::annotations::{ANNOTATIONS, PREFIX};
use super::class::ANNOTATION as CLASS_ANNOTATION;
use super::outcome::{find, names};
use super::report::Class;
use crate::config::did_you_mean;

/// The text about an Ingress's class.
pub(super) const CLASS: &str = "the choice of the gateway stays there";
const F5: &str = "of F5's NGINX Ingress Controller, another product, whose annotations ingress-nginx ignores";
const OTHER_CONTROLLER: &str = "another controller's, which ingress-nginx ignores";
const OTHER_TOOL: &str = "another tool reads it; it belongs on whatever takes the Ingress's place";
const BOOKKEEPING: &str = "the bookkeeping of another tool";

/// The owner of annotations with this prefix.
const PREFIXES: [(&str, Class, &str); 29] = [
    ("nginx.org/", Class::Unknown, F5),
    ("nginx.com/", Class::Unknown, F5),
    ("appprotect.f5.com/", Class::Unknown, F5),
    ("appprotectdos.f5.com/", Class::Unknown, F5),
    ("alb.ingress.kubernetes.io/", Class::Unknown, OTHER_CONTROLLER),
    ("appgw.ingress.kubernetes.io/", Class::Unknown, OTHER_CONTROLLER),
    ("haproxy.org/", Class::Unknown, OTHER_CONTROLLER),
    ("haproxy-ingress.github.io/", Class::Unknown, OTHER_CONTROLLER),
    ("konghq.com/", Class::Unknown, OTHER_CONTROLLER),
    ("kubernetes.io/ingress.global-static-ip-name", Class::Unknown, OTHER_CONTROLLER),
    ("networking.gke.io/", Class::Unknown, OTHER_CONTROLLER),
    ("projectcontour.io/", Class::Unknown, OTHER_CONTROLLER),
    ("traefik.ingress.kubernetes.io/", Class::Unknown, OTHER_CONTROLLER),
    ("acme.cert-manager.io/", Class::Gateway, OTHER_TOOL),
    ("cert-manager.io/", Class::Gateway, OTHER_TOOL),
    ("certmanager.k8s.io/", Class::Gateway, OTHER_TOOL),
    ("external-dns.alpha.kubernetes.io/", Class::Gateway, OTHER_TOOL),
    ("kubernetes.io/tls-acme", Class::Gateway, OTHER_TOOL),
    ("service.beta.kubernetes.io/", Class::Gateway, OTHER_TOOL),
    ("app.kubernetes.io/", Class::NotNeeded, BOOKKEEPING),
    ("argocd.argoproj.io/", Class::NotNeeded, BOOKKEEPING),
    ("field.cattle.io/", Class::NotNeeded, BOOKKEEPING),
    ("fluxcd.io/", Class::NotNeeded, BOOKKEEPING),
    ("helm.sh/", Class::NotNeeded, BOOKKEEPING),
    ("kubectl.kubernetes.io/", Class::NotNeeded, BOOKKEEPING),
    ("kustomize.toolkit.fluxcd.io/", Class::NotNeeded, BOOKKEEPING),
    ("meta.helm.sh/", Class::NotNeeded, BOOKKEEPING),
    ("reloader.stakater.com/", Class::NotNeeded, BOOKKEEPING),
    ("gethomepage.dev/", Class::NotNeeded, BOOKKEEPING),
];

/// The class of an annotation without ingress-nginx's prefix, and the text about it.
pub(super) fn foreign(key: &str) -> (Class, String) {
    if key == CLASS_ANNOTATION {
        return (Class::Gateway, CLASS.into());
    }
    if let Some((_, class, text)) = PREFIXES.iter().find(|(prefix, ..)| key.starts_with(prefix)) {
        return (*class, (*text).into());
    }
    let (prefix, name) = key.rsplit_once('/').map_or(("", key), |(prefix, name)| (prefix, name));
    let hint = did_you_mean(prefix, [PREFIX.trim_end_matches('/')]);
    let is_known = find(ANNOTATIONS, name).is_some();
    let text = match (prefix, is_known) {
        ("ingress.kubernetes.io", _) => {
            let name_hint = if is_known { String::new() } else { did_you_mean(name, names(ANNOTATIONS)) };
            format!("the prefix of ingress-nginx before 0.9, which later versions ignore{name_hint}; it had no effect")
        }
        ("", true) => format!("it lacks the prefix `{PREFIX}`, and had no effect"),
        (_, _) if !hint.is_empty() => format!("a slip in the prefix{hint}; it had no effect"),
        (_, true) => format!(
            "`{name}` under another prefix: ingress-nginx reads it only if run with `--annotations-prefix={prefix}`"
        ),
        (_, false) => "no annotation of ingress-nginx".into(),
    };
    (Class::Unknown, text)
}
