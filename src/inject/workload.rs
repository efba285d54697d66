//! Workloads: the pod template, and the facts about it that injection and Services depend on.

use std::collections::BTreeMap;

use super::configuration::Configuration;
use super::object::{Object, is_chosen, texts};
use super::sidecar;
use super::tree::{Entry, Id, Tree};
use super::{CONFIG_MAP, Error, Names, UPSTREAM_PORT};

pub(super) const GRACE: &str = "terminationGracePeriodSeconds";

/// The pods of a workload, as far as Services are concerned.
pub(super) struct Pods {
    pub(super) title: String,
    namespace: String,
    labels: BTreeMap<String, String>,
}

impl Pods {
    /// `None` if the object is not a workload.
    pub(super) fn of(tree: &Tree, object: &Object) -> Option<Self> {
        let template = tree.find(object.id, object.template()?)?;
        let labels = texts(tree, tree.find(template, &["metadata", "labels"]));
        Some(Self { title: object.title(), namespace: object.namespace.clone(), labels })
    }

    /// Whether the selector of a Service in this namespace selects the pods. An empty selector selects none.
    pub(super) fn is_selected(&self, namespace: &str, selector: &BTreeMap<String, String>) -> bool {
        !selector.is_empty()
            && self.namespace == namespace
            && selector.iter().all(|(key, value)| self.labels.get(key) == Some(value))
    }
}

/// The facts about an injected workload that Services depend on.
pub(super) struct Workload {
    pub(super) pods: Pods,
    /// The named ports of its containers.
    ports: BTreeMap<String, u16>,
    pub(super) upstream_port: Option<u16>,
}

impl Workload {
    /// The number of a target port, given as a number or as the name of a container port.
    pub(super) fn port(&self, target: &str) -> Option<u16> {
        target.parse().ok().or_else(|| self.ports.get(target).copied())
    }
}

/// A workload's pod template, and the path of keys to it.
pub(super) struct Template<'a> {
    pub(super) tree: &'a Tree,
    /// The entry of the template in its map; `None` for a Pod, which is its own template.
    pub(super) entry: Option<Entry>,
    pub(super) root: Id,
    pub(super) object: &'a Object,
}

impl<'a> Template<'a> {
    /// The pod template of a workload; `None` for other objects. An error if it cannot be edited.
    pub(super) fn of(tree: &'a Tree, object: &'a Object) -> Result<Option<Self>, Error> {
        let Some(path) = object.template() else { return Ok(None) };
        if !is_chosen(tree, object.id, path) {
            return Ok(None);
        }
        let mut template = Self { tree, entry: None, root: object.id, object };
        for key in path {
            let Some(entry) = tree.own(template.root, key)? else { return Ok(None) };
            (template.entry, template.root) = (Some(entry), entry.value);
        }
        Ok(Some(template))
    }

    /// The facts that Services depend on. `flag` is the port for pods that do not state one.
    pub(super) fn workload(&self, flag: Option<u16>) -> Result<Workload, Error> {
        let tree = self.tree;
        let ports = self.container_ports().filter_map(|port| {
            Some((tree.text_at(port, &["name"])?.to_owned(), tree.text_at(port, &["containerPort"])?.parse().ok()?))
        });
        Ok(Workload {
            pods: Pods {
                title: self.object.title(),
                namespace: self.object.namespace.clone(),
                labels: texts(tree, tree.find(self.root, &["metadata", "labels"])),
            },
            ports: ports.collect(),
            upstream_port: self.upstream_port()?.or(flag),
        })
    }

    pub(super) fn has_sidecar(&self) -> bool {
        self.sidecar().is_some()
    }

    /// The name of the mounted ConfigMap.
    pub(super) fn config_map(&self, names: &Names) -> String {
        self.annotated(CONFIG_MAP).unwrap_or(&names.config_map).into()
    }

    /// Why there is no sidecar to remove.
    pub(super) fn why_bare(&self) -> &'static str {
        match self.named_as_sidecar().first() {
            Some(_) => "its init container of that name is not sidestream's",
            None => "it has no sidecar",
        }
    }

    /// Warns if an injected pod's grace period is shorter than its configuration requires.
    pub(super) fn warn_of_haste(&self, configuration: &Configuration) -> Option<String> {
        let (least, why) = configuration.grace()?;
        let written = self.tree.text_at(self.root, &["spec", GRACE]);
        // Kubernetes' default.
        let grace = written.and_then(|written| written.parse().ok()).unwrap_or(30);
        let title = self.object.title();
        (grace < least).then(|| format!("{title}: warning: `{GRACE}` is {grace}, and should be {least}: {why}"))
    }

    /// Warns of containers that end before all nodes have stopped sending requests to the pod. Pods of jobs serve none.
    pub(super) fn warn_of_abrupt_end(&self) -> Option<String> {
        let containers = self.tree.find(self.root, &["spec", "containers"]).filter(|_| !self.object.is_job())?;
        let is_abrupt = |container: &Id| self.tree.find(*container, &["lifecycle", "preStop"]).is_none();
        let abrupt = self.tree.items(containers).filter(is_abrupt);
        let names: Vec<&str> = abrupt.filter_map(|container| self.tree.text_at(container, &["name"])).collect();
        let (title, names) = (self.object.title(), (!names.is_empty()).then(|| names.join(", "))?);
        Some(format!(
            "{title}: warning: no `lifecycle.preStop` in {names}: a rollout loses requests; `sleep: {{ seconds: 10 }}` avoids that"
        ))
    }

    pub(super) fn spec(&self) -> Result<Entry, Error> {
        let spec = self.tree.own(self.root, "spec")?;
        spec.ok_or_else(|| self.tree.error(self.root, format!("{} has no `spec` of a pod", self.object.title())))
    }

    /// The application's port in the pod's annotation.
    pub(super) fn upstream_port(&self) -> Result<Option<u16>, Error> {
        let port = |written: &str| match written.parse() {
            Ok(port) if port > 0 => Ok(port),
            _ => Err(self.tree.error(self.root, format!("the annotation {UPSTREAM_PORT} is not a port: {written}"))),
        };
        self.annotated(UPSTREAM_PORT).map(port).transpose()
    }

    pub(super) fn annotated(&self, key: &str) -> Option<&'a str> {
        self.tree.text_at(self.root, &["metadata", "annotations", key])
    }

    pub(super) fn container_ports(&self) -> impl Iterator<Item = Id> {
        let tree = self.tree;
        let lists = ["containers", "initContainers"].map(|list| tree.find(self.root, &["spec", list]));
        let containers = lists.into_iter().flatten().flat_map(|list| tree.items(list));
        containers.filter_map(|container| tree.get(container, "ports")).flat_map(|ports| tree.items(ports))
    }

    /// The items of a list with one of these names.
    pub(super) fn named(&self, path: &[&str], names: &[String]) -> impl Iterator<Item = Id> {
        let list = self.tree.find(self.root, path);
        let items = list.into_iter().flat_map(|list| self.tree.items(list));
        items.filter(|item| self.tree.text_at(*item, &["name"]).is_some_and(|name| names.iter().any(|own| own == name)))
    }

    pub(super) fn named_as_sidecar(&self) -> Vec<Id> {
        self.named(&["spec", "initContainers"], &[sidecar::NAME.into()]).collect()
    }

    pub(super) fn sidecar(&self) -> Option<Id> {
        self.named_as_sidecar().into_iter().find(|container| self.is_sidecar(*container))
    }

    /// Whether a container of the sidecar's name is the sidecar, whatever injected it: a native sidecar that runs
    /// sidestream, and not a container of the user's.
    fn is_sidecar(&self, container: Id) -> bool {
        let tree = self.tree;
        let first = tree.find(container, &["args"]).and_then(|args| tree.items(args).next());
        tree.text_at(container, &["restartPolicy"]) == Some("Always")
            && first.and_then(|arg| tree.text(arg)) == Some("run")
    }
}
