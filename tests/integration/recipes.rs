//! Every recipe of docs/topics.md: with its configuration, its records become the events that it shows.
//!
//! A recipe is a section. Its `yaml` block is the configuration. A `json record KEY` block is a record, empty for a
//! tombstone; a `text record` has its bytes in hexadecimal, and a `json schema ID` block is a schema in the registry of the
//! recipe. A `json events` block follows the path of its stream, and shows some fields of each event. A `json state`
//! block shows what a stream receives that is opened after the records were read, and a `json document` block the
//! document at that time, without its cursor.

use serde_json::{Value, json};

use crate::support::broker::Broker;
use crate::support::eventually;
use crate::support::fixture::Plan;
use crate::support::ndjson::Ndjson;
use crate::support::schema_registry::Stub;

/// The registry of the recipes.
const REGISTRY: &str = "https://registry.example";

const PAGE: &str = include_str!("../../docs/topics.md");

/// A block of code: the text before it, what follows its three backticks, and its content.
struct Block<'a> {
    before: &'a str,
    info: &'a str,
    content: &'a str,
}

fn blocks(section: &str) -> Vec<Block<'_>> {
    let parts: Vec<&str> = section.split("```").collect();
    let pairs = parts.chunks_exact(2);
    pairs
        .map(|pair| {
            let (info, content) = pair[1].split_once('\n').unwrap();
            Block { before: pair[0], info, content: content.trim_end() }
        })
        .collect()
}

/// The path in the last inline code before a block.
fn path_before<'a>(block: &Block<'a>) -> &'a str {
    let path = block.before.rsplit('`').nth(1).unwrap();
    assert!(path.starts_with('/'), "{path}");
    path
}

/// Bytes in hexadecimal, separated by spaces.
fn bytes(text: &str) -> Vec<u8> {
    text.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect()
}

/// The names of the topics in the cluster.
fn topics(configuration: &str) -> Vec<String> {
    let configuration: Value = serde_saphyr::from_str(configuration).unwrap();
    let streams = configuration["streams"].as_object().unwrap().values();
    let topics = streams.flat_map(|stream| stream["topics"].as_array().unwrap());
    topics.map(|topic| topic.as_str().unwrap().to_owned()).collect()
}

/// The fields of an event that a line shows.
fn fields_of(line: &str, event: &Value) -> Value {
    let shown: Value = serde_json::from_str(line).unwrap();
    shown.as_object().unwrap().keys().map(|name| (name.clone(), event[name].clone())).collect()
}

#[test]
fn every_recipe_for_topics_works() {
    let recipes: Vec<&str> = PAGE.split("\n## ").skip(1).collect();
    assert!(recipes.len() >= 3, "{}", recipes.len());
    for recipe in recipes {
        let title = recipe.lines().next().unwrap();
        let blocks = blocks(recipe);
        let configuration = blocks.iter().find(|block| block.info == "yaml").unwrap().content;
        let topics = topics(configuration);
        let partitions: Vec<(&str, i32)> = topics.iter().map(|topic| (&**topic, 1)).collect();
        let registry = Stub::start();
        for block in &blocks {
            if let Some(id) = block.info.strip_prefix("json schema ") {
                registry.put(&format!("/schemas/ids/{id}"), json!({ "schema": block.content }));
            }
        }
        let configuration = configuration.replace(REGISTRY, &format!("http://{}", registry.address));
        let plan = Plan::new(configuration).file("registry-password", "password");
        let fixture = plan.broker(Broker::start(&partitions)).build();
        let shown: Vec<&Block<'_>> = blocks.iter().filter(|block| block.info == "json events").collect();
        let mut streams: Vec<_> = shown.iter().map(|block| fixture.get(path_before(block)).ndjson()).collect();
        let states: Vec<&Block<'_>> = blocks.iter().filter(|block| block.info == "json state").collect();
        assert!(!streams.is_empty() || !states.is_empty(), "{title}");
        for block in &blocks {
            let Some((form, key)) = block.info.split_once(" record") else { continue };
            let key = Some(key.trim()).filter(|key| !key.is_empty());
            let value = if form == "text" { bytes(block.content) } else { block.content.as_bytes().to_vec() };
            let value = Some(&value[..]).filter(|value| !value.is_empty());
            fixture.broker.produce(&topics[0], 0, key, value);
        }
        for (block, stream) in shown.iter().zip(&mut streams) {
            for line in block.content.lines() {
                let event = stream.event();
                let expected: Value = serde_json::from_str(line).unwrap();
                assert_eq!(fields_of(line, &event), expected, "{title}: {event}");
            }
        }
        for block in states {
            eventually(&format!("{title}: the state"), || {
                let (head, body) = fixture.get(path_before(block)).open();
                let status = head.status;
                let mut stream = Ndjson::over(head, body);
                let mut is_as_shown =
                    |line| fields_of(line, &stream.event()) == serde_json::from_str::<Value>(line).unwrap();
                (status == 200 && block.content.lines().all(&mut is_as_shown)).then_some(())
            });
        }
        for block in blocks.iter().filter(|block| block.info == "json document") {
            let mut answer = fixture.get(path_before(block)).header("Accept", "application/json").send().json();
            answer.pointer_mut("/meta").and_then(Value::as_object_mut).map(|meta| meta.remove("cursor"));
            assert_eq!(answer, serde_json::from_str::<Value>(block.content).unwrap(), "{title}");
        }
    }
}
