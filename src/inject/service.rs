//! Redirects Services that select injected pods to the sidecar, which proxies ordinary requests.

use std::collections::BTreeMap;

use serde_json::json;

use super::annotation::annotate;
use super::edit::{Edits, Insertion};
use super::object::{Object, texts};
use super::tree::{Id, Tree};
use super::workload::{Pods, Workload};
use super::{Error, MEMORY};

const TARGET: &str = "targetPort";

/// The original target of each redirected port, as written (including quotes); `None` if it was the port's own number.
type Memory = BTreeMap<String, Option<String>>;

/// Redirects the ports that lead to a selected workload's application to the sidecar's `port`, unless the Service also
/// selects pods without a sidecar (`bare`). Returns a line for each change, and for each port left unchanged with the
/// reason.
pub(super) fn rewire(
    tree: &Tree,
    service: &Object,
    workloads: &[Workload],
    bare: &[Pods],
    port: u16,
    edits: &mut Edits<'_>,
) -> Result<Vec<String>, Error> {
    let selector = texts(tree, tree.find(service.id, &["spec", "selector"]));
    let is_selected = |pods: &Pods| pods.is_selected(&service.namespace, &selector);
    let unchanged = |why: String| Ok(vec![format!("{}: unchanged: {why}", service.title())]);
    let mut selected = workloads.iter().filter(|workload| is_selected(&workload.pods));
    let Some(workload) = selected.next() else {
        return unchanged("it selects no pods of this input that have a sidecar".into());
    };
    if memory(tree, service)?.is_some() {
        return unchanged("it leads to the sidecar already".into());
    }
    if let Some(pods) = bare.iter().find(|pods| is_selected(pods)) {
        return unchanged(format!(
            "it selects the pods of {} as well, which have no sidecar: on its port they would refuse every request",
            pods.title
        ));
    }
    if let Some(other) = selected.find(|other| other.upstream_port != workload.upstream_port) {
        let message = format!("{} and {} have different upstream ports", workload.pods.title, other.pods.title);
        return Err(tree.error(service.id, message));
    }
    let mut memory = Memory::new();
    let mut said = Vec::new();
    for id in upstream_ports(tree, service, workload, port)? {
        let number = tree.text_at(id, &["port"]).unwrap_or_default();
        let target = target(tree, id);
        point(tree, id, port, edits)?;
        said.push(format!("{}: port {number} leads to the sidecar instead of {target}", service.title()));
        let before = tree.entry(id, TARGET);
        memory.insert(number.into(), before.map(|entry| edits.written(entry.value).into()));
    }
    let is_left = |id: &Id| !memory.contains_key(tree.text_at(*id, &["port"]).unwrap_or_default());
    for id in all_ports(tree, service).filter(is_left) {
        let number = tree.text_at(id, &["port"]).unwrap_or_default();
        let why = why_left(tree, id, workload, port);
        said.push(format!("{}: port {number} is unchanged: {why}", service.title()));
    }
    if !memory.is_empty() {
        let metadata = tree.own(service.id, "metadata")?;
        let metadata = metadata.ok_or_else(|| tree.error(service.id, "a Service without `metadata`"))?;
        annotate(tree, metadata, &[(MEMORY.into(), json!(memory).to_string())], edits)?;
    }
    Ok(said)
}

/// Restores the original targets of a Service. Returns a line for each change.
pub(super) fn restore(tree: &Tree, service: &Object, edits: &mut Edits<'_>) -> Result<Vec<String>, Error> {
    let Some(memory) = memory(tree, service)? else {
        return Ok(vec![format!("{}: unchanged: nothing was injected", service.title())]);
    };
    for id in ports(tree, service) {
        let before = tree.text_at(id, &["port"]).and_then(|port| memory.get(port));
        let (Some(before), Some(entry)) = (before, tree.own(id, TARGET)?) else { continue };
        match before {
            Some(written) => edits.replace(entry.value, written.clone()),
            None => edits.remove(entry.value),
        }
    }
    let annotations = tree.find(service.id, &["metadata", "annotations"]);
    let annotation = annotations.and_then(|annotations| tree.entry(annotations, MEMORY));
    annotation.into_iter().for_each(|entry| edits.remove(entry.value));
    Ok(vec![format!("{}: as it was", service.title())])
}

/// The ports that lead to the workload's application. If its port is not stated, the Service must have a single port.
fn upstream_ports(tree: &Tree, service: &Object, workload: &Workload, own: u16) -> Result<Vec<Id>, Error> {
    let leads_to = |id: Id| workload.port(target(tree, id));
    let ports: Vec<Id> = ports(tree, service).filter(|id| leads_to(*id) != Some(own)).collect();
    match (workload.upstream_port, ports.len()) {
        (Some(upstream), _) => Ok(ports.into_iter().filter(|id| leads_to(*id) == Some(upstream)).collect()),
        (None, 0 | 1) => Ok(ports),
        (None, _) => Err(tree.error(
            service.id,
            format!(
                "{} has several ports: say which the app of {} listens on, by the annotation {} of its pods or by \
                 --upstream-port",
                service.title(),
                workload.pods.title,
                super::UPSTREAM_PORT
            ),
        )),
    }
}

/// TCP ports, the only protocol that sidestream supports.
fn ports(tree: &Tree, service: &Object) -> impl Iterator<Item = Id> {
    all_ports(tree, service).filter(|port| is_tcp(tree, *port))
}

fn all_ports(tree: &Tree, service: &Object) -> impl Iterator<Item = Id> {
    let list = tree.find(service.id, &["spec", "ports"]);
    list.into_iter().flat_map(|list| tree.items(list))
}

fn is_tcp(tree: &Tree, port: Id) -> bool {
    tree.text_at(port, &["protocol"]).unwrap_or("TCP") == "TCP"
}

fn why_left(tree: &Tree, id: Id, workload: &Workload, own: u16) -> String {
    let target = target(tree, id);
    match (workload.port(target), workload.upstream_port) {
        _ if !is_tcp(tree, id) => "it is not of TCP".into(),
        (Some(port), _) if port == own => "it leads to the sidecar".into(),
        (None, _) => format!("no container of {} has a port of the name {target}", workload.pods.title),
        (_, Some(upstream)) => format!("it leads to {target}, and the app listens on {upstream}"),
        (_, None) => format!("it leads to {target}"),
    }
}

/// The target of a port, as written: a number or a name.
fn target(tree: &Tree, port: Id) -> &str {
    let target = tree.text_at(port, &[TARGET]).filter(|target| !target.is_empty());
    target.or_else(|| tree.text_at(port, &["port"])).unwrap_or_default()
}

fn point(tree: &Tree, port: Id, at: u16, edits: &mut Edits<'_>) -> Result<(), Error> {
    match tree.own(port, TARGET)? {
        Some(entry) => edits.replace(entry.value, at.to_string()),
        None => {
            let insertion = Insertion { block: format!("{TARGET}: {at}\n"), flow: format!("\"{TARGET}\": {at}") };
            edits.insert_into_item(port, &insertion);
        }
    }
    Ok(())
}

fn memory(tree: &Tree, service: &Object) -> Result<Option<Memory>, Error> {
    let written = tree.text_at(service.id, &["metadata", "annotations", MEMORY]);
    let broken = |error| tree.error(service.id, format!("the annotation {MEMORY} is broken: {error}"));
    written.map(|written| serde_json::from_str(written).map_err(broken)).transpose()
}
