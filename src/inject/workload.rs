//! Workloads: finds the pod template, decides whether to inject, and injects or removes the sidecar.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::configuration::Configuration;
use super::edit::{Edits, Insertion};
use super::sidecar::{self, Sidecar};
use super::tree::{Entry, Id, Tree};
use super::{CONFIG_MAP, Error, LABEL, MEMORY, Names, Options, SECRET, UPSTREAM_PORT, quoted};

/// The kinds that have pods, with their API group and the path to the pod template.
const KINDS: [(&str, &str, &[&str]); 7] = [
    ("", "Pod", &[]),
    ("apps", "Deployment", &["spec", "template"]),
    ("apps", "StatefulSet", &["spec", "template"]),
    ("apps", "DaemonSet", &["spec", "template"]),
    ("apps", "ReplicaSet", &["spec", "template"]),
    ("batch", "Job", &["spec", "template"]),
    ("batch", "CronJob", &["spec", "jobTemplate", "spec", "template"]),
];
const GRACE: &str = "terminationGracePeriodSeconds";
/// The path from an object or pod template to the label.
const LABELLED: [&str; 3] = ["metadata", "labels", LABEL];
/// If a pod has this annotation, its owner has configured how Prometheus scrapes it.
const SCRAPE: &str = "prometheus.io/scrape";

/// A Kubernetes object.
pub(super) struct Object {
    pub(super) id: Id,
    group: String,
    pub(super) kind: String,
    pub(super) name: String,
    pub(super) namespace: String,
}

impl Object {
    /// All objects of a text, including the items of lists. Documents that are not objects are skipped.
    pub(super) fn all(tree: &Tree) -> Vec<Self> {
        let mut found = Vec::new();
        for root in &tree.roots {
            collect(tree, *root, None, &mut found);
        }
        found
    }

    /// For messages: `Deployment orders`.
    pub(super) fn title(&self) -> String {
        format!("{} {}", self.kind, self.name)
    }

    pub(super) fn is_service(&self) -> bool {
        self.group.is_empty() && self.kind == "Service"
    }

    pub(super) fn is_config_map(&self) -> bool {
        self.group.is_empty() && self.kind == "ConfigMap"
    }

    /// The path to the pod template, for kinds that have pods.
    fn template(&self) -> Option<&'static [&'static str]> {
        let kind = KINDS.iter().find(|(group, kind, _)| *group == self.group && *kind == self.kind);
        kind.map(|(_, _, path)| *path)
    }
}

/// Appends the object, or the objects of a list, to `found`. Items of a typed list may omit their kind.
fn collect(tree: &Tree, id: Id, typed: Option<(&str, &str)>, found: &mut Vec<Object>) {
    let kind = tree.text_at(id, &["kind"]).or_else(|| typed.map(|(kind, _)| kind));
    let version = tree.text_at(id, &["apiVersion"]).or_else(|| typed.map(|(_, version)| version));
    let (Some(kind), Some(version)) = (kind, version) else { return };
    if let (Some(item_kind), Some(items)) = (kind.strip_suffix("List"), tree.get(id, "items")) {
        let typed = Some((item_kind, version)).filter(|_| !item_kind.is_empty());
        tree.items(items).for_each(|item| collect(tree, item, typed, found));
        return;
    }
    let text = |path: &[&str]| tree.text_at(id, path).unwrap_or_default().to_owned();
    found.push(Object {
        id,
        group: version.split_once('/').map_or("", |(group, _)| group).into(),
        kind: kind.into(),
        name: text(&["metadata", "name"]),
        namespace: text(&["metadata", "namespace"]),
    });
}

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
    tree: &'a Tree,
    /// The entry of the template in its map; `None` for a Pod, which is its own template.
    entry: Option<Entry>,
    root: Id,
    object: &'a Object,
}

/// The state before an injection, stored in an annotation: what to remove, and what to restore.
#[derive(Debug, Default, Deserialize, Serialize)]
struct Memory {
    /// Added annotations, and possibly `terminationGracePeriodSeconds`.
    added: Vec<String>,
    /// The previous `terminationGracePeriodSeconds`, if it was too short.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    grace: Option<u64>,
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

    /// Injects the sidecar. Returns warnings about unusual cases.
    pub(super) fn inject(
        &self,
        options: &Options,
        configuration: &Configuration,
        edits: &mut Edits<'_>,
    ) -> Result<Vec<String>, Error> {
        let names = Names {
            image: options.names.image.clone(),
            config_map: self.config_map(&options.names),
            secret: self.annotated(SECRET).unwrap_or(&options.names.secret).into(),
        };
        names.check().map_err(|message| self.tree.error(self.root, message))?;
        let sidecar = Sidecar::new(&names)?;
        self.look_for_collisions(&sidecar)?;
        let spec = self.spec()?;
        let mut said = Vec::new();
        let mut least = sidecar.grace();
        if let Some((wanted, why)) = configuration.grace().filter(|(wanted, _)| *wanted > least) {
            least = wanted;
            said.push(format!("{}: `{GRACE}` is {least} at least: {why}", self.object.title()));
        }
        let mut memory = self.lengthen(spec, least, edits)?;
        for list in ["initContainers", "volumes"] {
            match self.tree.own(spec.value, list)? {
                Some(entry) if self.tree.is_null(entry.value) => {
                    edits.fill(entry, &format!("[{}]", sidecar.items(list).flow))
                }
                Some(entry) => edits.insert_under(entry, &sidecar.items(list))?,
                None => edits.insert_under(spec, &sidecar.keyed(list))?,
            }
        }
        let mut annotations: Vec<(String, String)> = Vec::new();
        if self.annotated(SCRAPE).is_some() {
            let title = self.object.title();
            said.push(format!(
                "{title}: it has the annotation {SCRAPE}, so that those for the sidecar's metrics were left out"
            ));
        } else {
            annotations.extend(sidecar.annotations().map(|(key, value)| (key.into(), value.into())));
        }
        if let (Some(port), None) = (options.upstream_port, self.upstream_port()?) {
            annotations.push((UPSTREAM_PORT.into(), port.to_string()));
        }
        memory.added.extend(annotations.iter().map(|(key, _)| key.clone()));
        annotations.push((MEMORY.into(), json!(memory).to_string()));
        self.annotate(&annotations, edits)?;
        if self.tree.text_at(self.root, &["spec", "hostNetwork"]) == Some("true") {
            let title = self.object.title();
            said.push(format!("{title}: warning: with `hostNetwork` every process of the node counts as the same host: it may drain and reload"));
        }
        Ok(said)
    }

    /// Removes the sidecar, and restores the previous state.
    pub(super) fn restore(&self, edits: &mut Edits<'_>) -> Result<(), Error> {
        let memory: Memory = match self.annotated(MEMORY) {
            Some(written) => serde_json::from_str(written)
                .map_err(|error| self.tree.error(self.root, format!("the annotation {MEMORY} is broken: {error}")))?,
            None => Memory::default(),
        };
        let spec = self.spec()?;
        self.sidecar().into_iter().for_each(|container| edits.remove(container));
        let ours: Vec<String> = volume_names(&Sidecar::new(&Names::default())?).collect();
        self.named(&["spec", "volumes"], &ours).for_each(|volume| edits.remove(volume));
        if let (Some(before), Some(entry)) = (memory.grace, self.tree.own(spec.value, GRACE)?) {
            edits.replace(entry.value, before.to_string());
        }
        let annotations = self.tree.find(self.root, &["metadata", "annotations"]);
        for key in memory.added.iter().map(String::as_str).chain([MEMORY]) {
            let map = if key == GRACE { Some(spec.value) } else { annotations };
            let entry = map.and_then(|map| self.tree.entry(map, key));
            entry.into_iter().for_each(|entry| edits.remove(entry.value));
        }
        Ok(())
    }

    fn spec(&self) -> Result<Entry, Error> {
        let spec = self.tree.own(self.root, "spec")?;
        spec.ok_or_else(|| self.tree.error(self.root, format!("{} has no `spec` of a pod", self.object.title())))
    }

    /// The application's port in the pod's annotation.
    fn upstream_port(&self) -> Result<Option<u16>, Error> {
        let port = |written: &str| match written.parse() {
            Ok(port) if port > 0 => Ok(port),
            _ => Err(self.tree.error(self.root, format!("the annotation {UPSTREAM_PORT} is not a port: {written}"))),
        };
        self.annotated(UPSTREAM_PORT).map(port).transpose()
    }

    fn annotated(&self, key: &str) -> Option<&'a str> {
        self.tree.text_at(self.root, &["metadata", "annotations", key])
    }

    fn container_ports(&self) -> impl Iterator<Item = Id> {
        let tree = self.tree;
        let lists = ["containers", "initContainers"].map(|list| tree.find(self.root, &["spec", list]));
        let containers = lists.into_iter().flatten().flat_map(|list| tree.items(list));
        containers.filter_map(|container| tree.get(container, "ports")).flat_map(|ports| tree.items(ports))
    }

    /// The items of a list with one of these names.
    fn named(&self, path: &[&str], names: &[String]) -> impl Iterator<Item = Id> {
        let list = self.tree.find(self.root, path);
        let items = list.into_iter().flat_map(|list| self.tree.items(list));
        items.filter(|item| self.tree.text_at(*item, &["name"]).is_some_and(|name| names.iter().any(|own| own == name)))
    }

    fn named_as_sidecar(&self) -> Vec<Id> {
        self.named(&["spec", "initContainers"], &[sidecar::NAME.into()]).collect()
    }

    fn sidecar(&self) -> Option<Id> {
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

    /// Rejects a pod that already uses a name or port of the sidecar.
    fn look_for_collisions(&self, sidecar: &Sidecar) -> Result<(), Error> {
        let tree = self.tree;
        for port in self.container_ports() {
            let number = tree.text_at(port, &["containerPort"]).and_then(|number| number.parse().ok());
            if sidecar.ports().any(|own| Some(own) == number) {
                return Err(tree.error(port, format!("port {} is the sidecar's", number.unwrap_or_default())));
            }
        }
        let volumes: Vec<String> = volume_names(sidecar).collect();
        let taken = self
            .named(&["spec", "volumes"], &volumes)
            .chain(self.named(&["spec", "containers"], &[sidecar::NAME.into()]))
            .chain(self.named_as_sidecar())
            .next();
        taken.map_or(Ok(()), |taken| {
            Err(tree.error(taken, "this name is the sidecar's, and what has it here is another thing"))
        })
    }

    /// Extends the termination grace period, and returns what to restore.
    fn lengthen(&self, spec: Entry, least: u64, edits: &mut Edits<'_>) -> Result<Memory, Error> {
        let Some(entry) = self.tree.own(spec.value, GRACE)? else {
            let (block, flow) = (format!("{GRACE}: {least}\n"), format!("\"{GRACE}\": {least}"));
            edits.insert_under(spec, &Insertion { block, flow })?;
            return Ok(Memory { added: vec![GRACE.into()], grace: None });
        };
        let written = self.tree.text(entry.value).and_then(|written| written.parse::<u64>().ok());
        let written =
            written.ok_or_else(|| self.tree.error(entry.value, format!("`{GRACE}` is not a number of seconds")))?;
        if written >= least {
            return Ok(Memory::default());
        }
        edits.replace(entry.value, least.to_string());
        Ok(Memory { added: Vec::new(), grace: Some(written) })
    }

    fn annotate(&self, annotations: &[(String, String)], edits: &mut Edits<'_>) -> Result<(), Error> {
        let Some(metadata) = self.tree.own(self.root, "metadata")?.filter(|entry| !self.tree.is_null(entry.value))
        else {
            // A pod template may have no `metadata`; a Pod has at least a name.
            let template = self.entry.ok_or_else(|| self.tree.error(self.root, "a Pod without `metadata`"))?;
            return edits.insert_under(template, &under("metadata", &under("annotations", &pairs(annotations))));
        };
        annotate(self.tree, metadata, annotations, edits)
    }
}

/// Adds annotations to the `metadata` of an object or pod template.
pub(super) fn annotate(
    tree: &Tree,
    metadata: Entry,
    annotations: &[(String, String)],
    edits: &mut Edits<'_>,
) -> Result<(), Error> {
    match tree.own(metadata.value, "annotations")? {
        Some(entry) if tree.is_null(entry.value) => {
            edits.fill(entry, &format!("{{{}}}", pairs(annotations).flow));
            Ok(())
        }
        Some(entry) => edits.insert_under(entry, &pairs(annotations)),
        None => edits.insert_under(metadata, &under("annotations", &pairs(annotations))),
    }
}

/// A map of strings, such as labels.
pub(super) fn texts(tree: &Tree, map: Option<Id>) -> BTreeMap<String, String> {
    let entries = map.map_or(&[][..], |map| tree.entries(map));
    entries.iter().filter_map(|entry| Some((tree.text(entry.key)?.into(), tree.text(entry.value)?.into()))).collect()
}

/// Whether the label is on the pod template, or on the workload itself.
fn is_chosen(tree: &Tree, object: Id, template: &[&str]) -> bool {
    let on_pods: Vec<&str> = template.iter().chain(&LABELLED).copied().collect();
    [&LABELLED[..], &on_pods].iter().any(|path| tree.text_at(object, path) == Some("true"))
}

/// Why an object gets no sidecar.
pub(super) fn why_unchanged(tree: &Tree, object: &Object) -> String {
    let template = object.template();
    let on_pods: Vec<&str> = template.unwrap_or(&["spec", "template"]).iter().chain(&LABELLED).copied().collect();
    let label = tree.text_at(object.id, &on_pods).or_else(|| tree.text_at(object.id, &LABELLED));
    match (template, label) {
        (None, None) => "it is neither a workload nor a Service".into(),
        (None, Some(_)) => {
            format!("it has the label {LABEL}, but {} is not a kind whose pods can have a sidecar", object.kind)
        }
        (Some(_), None) => format!("neither it nor its pods have the label {LABEL}: \"true\""),
        (Some(_), Some("true")) => "it has no template of pods".into(),
        (Some(_), Some(other)) => format!("its label {LABEL} is {other:?}, not \"true\""),
    }
}

fn volume_names(sidecar: &Sidecar) -> impl Iterator<Item = String> {
    sidecar.list("volumes").filter_map(|volume| sidecar.tree.text_at(volume, &["name"]).map(str::to_owned))
}

fn pairs(annotations: &[(String, String)]) -> Insertion {
    let block = annotations.iter().map(|(key, value)| format!("{key}: {}\n", quoted(value))).collect();
    let flow: Vec<_> = annotations.iter().map(|(key, value)| format!("{}: {}", json!(key), json!(value))).collect();
    Insertion { block, flow: flow.join(", ") }
}

/// A map nested under a key.
fn under(key: &str, inner: &Insertion) -> Insertion {
    let lines: String = inner.block.lines().map(|line| format!("  {line}\n")).collect();
    Insertion { block: format!("{key}:\n{lines}"), flow: format!("\"{key}\": {{{}}}", inner.flow) }
}
