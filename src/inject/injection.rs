//! Injects the sidecar into a pod template, and removes it again. An annotation records what an injection changed.

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::annotation::{self, pairs, under};
use super::configuration::Configuration;
use super::edit::{Edits, Insertion};
use super::sidecar::{self, Sidecar};
use super::tree::Entry;
use super::workload::{GRACE, Template};
use super::{Error, MEMORY, Names, Options, SECRET, UPSTREAM_PORT};

/// If a pod has this annotation, its owner has configured how Prometheus scrapes it.
const SCRAPE: &str = "prometheus.io/scrape";

/// The state before an injection, stored in an annotation: what to remove, and what to restore.
#[derive(Debug, Default, Deserialize, Serialize)]
struct Memory {
    /// Added annotations, and possibly `terminationGracePeriodSeconds`.
    added: Vec<String>,
    /// The previous `terminationGracePeriodSeconds`, if it was too short.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    grace: Option<u64>,
}

impl Template<'_> {
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
        annotation::annotate(self.tree, metadata, annotations, edits)
    }
}

fn volume_names(sidecar: &Sidecar) -> impl Iterator<Item = String> {
    sidecar.list("volumes").filter_map(|volume| sidecar.tree.text_at(volume, &["name"]).map(str::to_owned))
}
