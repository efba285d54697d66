//! Which broker describes a topic, with a real client and a mock broker in this process.

use std::thread;
use std::time::Instant;

use super::*;
use crate::config::snapshot::{Kafka, TopicConfig};
use crate::kafka::client::{Context, Link, connect_for_questions};
use crate::kafka::embedded::{Embedded, PROPERTIES};
use crate::metrics::Metrics;

/// Never reached, but ends a test that hangs.
const PATIENCE: Duration = Duration::from_secs(30);
const TOPIC: &str = "orders";

fn questions(broker: &Embedded) -> Questions {
    let config = Kafka {
        cluster: "kafka".into(),
        brokers: broker.bootstrap_servers().unwrap(),
        property_files: Vec::new(),
        properties: PROPERTIES.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect(),
        topics: vec![TopicConfig::new(TOPIC.into(), [])],
        warm_up: PATIENCE,
        required_for_readiness: false,
        finds_times: true,
    };
    let link = Arc::new(Link::new(config.cluster.clone(), Arc::new(Metrics::new("test").unwrap())));
    let client = connect_for_questions(&config, Context::for_questions(link, None)).unwrap();
    Questions::new(Arc::new(client), Isolation::Uncommitted)
}

/// Requests the description of the topic. Returns whether any broker is asked, instead of the one that responded first.
fn ask(questions: &mut Questions, n: i64) -> bool {
    questions.ask_description((0, n), &TOPIC.into());
    matches!(questions.topics[&0].asking, Asking::Broker(_))
}

/// The number of partitions, once a broker has described the topic. On a busy machine a request may time out.
fn answer(questions: &mut Questions) -> usize {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let (_, descriptions) = questions.time_answers();
        match descriptions.into_iter().next() {
            Some((_, Ok(description))) => return description.partitions,
            Some(((_, n), Err(_))) => _ = ask(questions, n),
            None => thread::yield_now(),
        }
        assert!(Instant::now() < deadline, "the broker answers");
    }
}

#[test]
fn the_broker_that_answered_is_asked_until_another_one_is_wanted() {
    let broker = Embedded::start(&[(TOPIC, 3)]).unwrap();
    let mut questions = questions(&broker);
    assert!(ask(&mut questions, 1), "no broker is known yet");
    assert_eq!(answer(&mut questions), 3);
    assert!(!ask(&mut questions, 2));
    assert_eq!(answer(&mut questions), 3);
    questions.ask_any_broker();
    assert!(ask(&mut questions, 3));
    assert_eq!(answer(&mut questions), 3);
    assert!(!ask(&mut questions, 4), "whichever answered is asked again");
}
