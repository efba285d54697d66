//! Apache Kafka behind TLS and SASL: who is let in, who is not, and what happens once that changes.

use std::fs;
use std::path::Path;

use serde_json::json;
use tempfile::{TempDir, tempdir};

use crate::support::admin::Admin;
use crate::support::eventually_true;
use crate::support::fixture::Plan;
use crate::support::real::{plan, shared};
use crate::support::real_broker::{PASSWORD, USER};

#[test]
fn tls_and_a_scram_password_from_a_file() {
    let directory = password(PASSWORD);
    let fixture = secure("secure", USER, directory.path()).build();
    let mut stream = fixture.get("/events").sse();
    let id = fixture.broker.event("secure", 0, json!({"type": "t", "data": 1}));
    assert_eq!(stream.ids(1), [id]);
    assert!(!fixture.sidecar.log().contains(PASSWORD));
}

#[test]
fn a_wrong_password_is_reported_and_the_right_one_taken_once_it_is_there() {
    let wrong = "a wrong password";
    let directory = password(wrong);
    let fixture = secure("refused", USER, directory.path()).build();
    assert_eq!(fixture.get("/echo").send().status(), 200);
    let mut stream = fixture.get("/events").sse();
    eventually_true("the reason in the log", || fixture.sidecar.log().contains("SASL authentication error"));
    assert_eq!(fixture.sidecar.metric("notifications_kafka_connected"), Some(0.0));
    fs::write(directory.path().join("password"), PASSWORD).unwrap();
    fixture.sidecar.await_metric("notifications_kafka_connected", 1.0);
    let id = fixture.broker.event("refused", 0, json!({"type": "t", "data": 1}));
    assert_eq!(stream.ids(1), [id]);
    let log = fixture.sidecar.log();
    assert!(!log.contains(wrong) && !log.contains(PASSWORD));
    let unwanted = fixture.sidecar.metric("notifications_config_reloads_total{result=\"needs-restart\"}");
    assert_eq!(unwanted.unwrap_or_default(), 0.0, "the source reads the file by itself");
}

#[test]
fn a_user_may_be_made_after_the_sidecar_started() {
    let directory = password("of late");
    let fixture = secure("late", "late", directory.path()).build();
    let mut stream = fixture.get("/events").sse();
    eventually_true("the reason in the log", || fixture.sidecar.log().contains("SASL authentication error"));
    shared().add_user("late", "of late");
    fixture.sidecar.await_metric("notifications_kafka_connected", 1.0);
    let id = fixture.broker.event("late", 0, json!({"type": "t", "data": 1}));
    assert_eq!(stream.ids(1), [id]);
}

#[test]
fn a_certificate_may_come_after_the_sidecar_started() {
    let directory = password(PASSWORD);
    let authority = directory.path().join("ca.pem");
    let fixture = secure("certified", USER, directory.path()).kafka(&keys(USER, directory.path(), &authority)).build();
    let mut stream = fixture.get("/events").sse();
    assert_eq!(fixture.sidecar.metric("notifications_kafka_connected"), Some(0.0));
    fs::copy(shared().authority(), &authority).unwrap();
    fixture.sidecar.await_metric("notifications_kafka_connected", 1.0);
    let id = fixture.broker.event("certified", 0, json!({"type": "t", "data": 1}));
    assert_eq!(stream.ids(1), [id]);
}

#[test]
fn a_listener_of_an_unknown_authority_is_not_believed() {
    let node = shared();
    Admin::of(&node.address).create_topic("believed", 1, &[]);
    let keys = format!(
        "brokers: \"{}\", warm_up: 200ms, properties: {{ security.protocol: SASL_SSL, sasl.mechanism: SCRAM-SHA-512, \
         sasl.username: {USER}, sasl.password: x }}",
        node.secure_address
    );
    let fixture = plan(node, &["believed"]).kafka(&keys).build();
    eventually_true("the reason in the log", || fixture.sidecar.log().contains("certificate verify failed"));
    assert_eq!(fixture.sidecar.metric("notifications_kafka_connected"), Some(0.0));
}

/// A directory with a password in a file of that name.
fn password(password: &str) -> TempDir {
    let directory = tempdir().unwrap();
    fs::write(directory.path().join("password"), format!("{password}\n")).unwrap();
    directory
}

/// A fixture that reads a topic through the secure listener, as this user with the password in that directory.
fn secure(topic: &str, user: &str, directory: &Path) -> Plan {
    Admin::of(&shared().address).create_topic(topic, 1, &[]);
    plan(shared(), &[topic]).kafka(&keys(user, directory, &shared().authority()))
}

fn keys(user: &str, directory: &Path, authority: &Path) -> String {
    format!(
        "brokers: \"{}\", warm_up: 1s, properties: {{ security.protocol: SASL_SSL, ssl.ca.location: \"{}\", \
         sasl.mechanism: SCRAM-SHA-512, sasl.username: {user}, reconnect.backoff.max.ms: 500 }}, property_files: {{ \
         sasl.password: \"{}\" }}",
        shared().secure_address,
        authority.display(),
        directory.join("password").display()
    )
}
