//! Which controller an Ingress belongs to: ingress-nginx, another one, or unknown.
//!
//! Without a cluster, only names and the IngressClasses of the input indicate it.

use super::manifest::{Object, at, get, plain, scalar};
use super::report::Subject;

/// The `controller` of ingress-nginx's IngressClasses.
const CONTROLLER: &str = "k8s.io/ingress-nginx";
/// The default class of ingress-nginx.
const USUAL: &str = "nginx";
/// The annotation that named the class before IngressClass existed.
pub(super) const ANNOTATION: &str = "kubernetes.io/ingress.class";
const DEFAULT_ANNOTATION: &str = "ingressclass.kubernetes.io/is-default-class";
/// Classes that other controllers document as theirs.
const FOREIGN: &str = "alb ambassador apisix application-gateway avi azure-application-gateway \
                       azure/application-gateway caddy cce cilium citrix contour f5 gce gce-internal gloo haproxy higress istio kong kourier \
                       openshift-default pomerium skipper traefik traefik-internal tyk voyager";

/// The IngressClasses of the input.
#[derive(Default)]
pub(super) struct Classes {
    ours: Vec<String>,
    foreign: Vec<(String, String)>,
    has_default: bool,
}

/// The controller of an Ingress, with doubts.
pub(super) enum Owner {
    IngressNginx,
    /// Imported, with this warning.
    Perhaps(Subject, String),
    /// Skipped, for this reason.
    Foreign(Subject, String),
}

impl Classes {
    pub(super) fn of(objects: &[Object<'_>]) -> Self {
        let mut classes = Self::default();
        for object in objects.iter().filter(|object| object.kind == "IngressClass") {
            let controller =
                at(object.node, &["spec", "controller"]).and_then(|node| plain(&node.value)).unwrap_or_default();
            if controller == CONTROLLER {
                classes.ours.push(object.name.to_string());
                let default = at(object.node, &["metadata", "annotations", DEFAULT_ANNOTATION]);
                classes.has_default |=
                    default.and_then(|node| scalar(&node.value)).is_some_and(|value| value == "true");
            } else {
                classes.foreign.push((object.name.to_string(), controller.to_owned()));
            }
        }
        classes
    }

    /// Determines the controller of an Ingress.
    pub(super) fn owner(&self, ingress: &Object<'_>) -> Owner {
        let field = at(ingress.node, &["spec", "ingressClassName"]).map(|node| ("spec.ingressClassName", node));
        let annotation = || at(ingress.node, &["metadata", "annotations", ANNOTATION]).map(|node| (ANNOTATION, node));
        let Some((key, node)) = field.or_else(annotation) else {
            return self.owner_of_unclassed(ingress);
        };
        let name = scalar(&node.value).unwrap_or_default();
        let subject = ingress.subject(key, node.place);
        if let Some((_, controller)) = self.foreign.iter().find(|(foreign, _)| *foreign == name) {
            return Owner::Foreign(
                subject,
                format!("`{name}` is a class of `{controller}`, not of ingress-nginx; nothing of it was read"),
            );
        }
        if name == USUAL || self.ours.iter().any(|ours| *ours == name) {
            return Owner::IngressNginx;
        }
        if FOREIGN.split(' ').any(|foreign| foreign == name) {
            return Owner::Foreign(
                subject,
                format!("`{name}` is another controller's class, not ingress-nginx's; nothing of it was read"),
            );
        }
        Owner::Perhaps(
            subject,
            format!("whether `{name}` is a class of ingress-nginx is not to be seen here; it was read as if it were"),
        )
    }

    fn owner_of_unclassed(&self, ingress: &Object<'_>) -> Owner {
        if self.has_default {
            return Owner::IngressNginx;
        }
        let spec = get(ingress.node, "spec").unwrap_or(ingress.node);
        let text = "it names no class: ingress-nginx takes it only as the default class, or with \
                    --watch-ingress-without-class; it was read as if it were so";
        Owner::Perhaps(ingress.subject("spec.ingressClassName", spec.place), text.into())
    }
}
