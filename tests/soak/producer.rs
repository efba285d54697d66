//! The producer: an even pace through every outage, one note for each record whose fate is known or never will be.

use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};

use crate::client::{Fence, Ground};
use crate::history::{FENCE, Op, Place, Text};
use crate::plan::{Draft, RATE, TOPICS, acls, drafts};

/// After this a record counts as unsure: short, so that outages make some.
const UNSURE_AFTER: Duration = Duration::from_secs(3);
/// How long the last answers may take, and the fences'.
const FINISH: Duration = Duration::from_secs(60);

/// How many partitions each topic has.
pub type Partitions = [AtomicI32; TOPICS.len()];

/// Where the answers go.
struct Answers {
    ground: Arc<Ground>,
    fences: Mutex<Vec<Fence>>,
}

struct Sent {
    key: Text,
    uid: Text,
    acl: Text,
}

impl ClientContext for Answers {}

impl ProducerContext for Answers {
    type DeliveryOpaque = Box<Sent>;

    fn delivery(&self, result: &DeliveryResult<'_>, sent: Box<Sent>) {
        let Sent { key, uid, acl } = *sent;
        let Ok(record) = result else { return self.ground.recorder.note(Op::Unsure { uid }) };
        let place = Place { topic: record.topic().into(), part: record.partition(), off: record.offset() };
        if uid.starts_with(FENCE) {
            let (place, uid, acl) = (place.clone(), uid.clone(), acl.clone());
            self.fences.lock().unwrap().push(Fence { place, uid, acl });
        }
        self.ground.recorder.note(Op::Produce { place, key, uid, acl });
    }
}

/// Produces the seed's records for so long.
pub fn produce(brokers: &str, ground: &Arc<Ground>, seed: u64, duration: Duration, partitions: &Partitions) {
    let producer = connect(brokers, ground, UNSURE_AFTER);
    let start = Instant::now();
    let count = duration.as_secs_f64() * f64::from(RATE);
    for (n, draft) in (0..count as u32).zip(drafts(seed)) {
        let due = start + Duration::from_secs(1) * n / RATE;
        while Instant::now() < due {
            producer.poll(due.saturating_duration_since(Instant::now()));
        }
        let partition = (draft.draw % partitions[draft.topic].load(Ordering::Relaxed) as u32) as i32;
        send(&producer, &draft, partition);
    }
    producer.flush(FINISH).unwrap();
}

/// Produces a fence for everybody at the end of every partition.
pub fn fence(brokers: &str, ground: &Arc<Ground>, partitions: &Partitions) -> Vec<Fence> {
    let producer = connect(brokers, ground, FINISH);
    let mut count = 0;
    for (topic, partitions) in partitions.iter().enumerate() {
        for partition in 0..partitions.load(Ordering::Relaxed) {
            for acl in 0..acls().len() {
                let uid = format!("{FENCE}{count}");
                send(&producer, &Draft { uid, topic, draw: 0, acl, padding: 0 }, partition);
                count += 1;
            }
        }
    }
    producer.flush(FINISH).unwrap();
    let fences = std::mem::take(&mut *producer.context().fences.lock().unwrap());
    assert_eq!(fences.len(), count, "every fence is acknowledged");
    fences
}

fn connect(brokers: &str, ground: &Arc<Ground>, timeout: Duration) -> BaseProducer<Answers> {
    let producer: BaseProducer<Answers> = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("linger.ms", "5")
        .set("message.timeout.ms", timeout.as_millis().to_string())
        .set("reconnect.backoff.max.ms", "200")
        .set("topic.metadata.refresh.interval.ms", "500")
        .create_with_context(Answers { ground: ground.clone(), fences: Mutex::default() })
        .unwrap();
    for topic in TOPICS {
        producer.client().fetch_metadata(Some(topic.name), FINISH).unwrap();
    }
    producer
}

fn send(producer: &BaseProducer<Answers>, draft: &Draft, partition: i32) {
    let acl = acls().swap_remove(draft.acl);
    let (tenant, user) = acl.split_once('/').unwrap();
    let (uid, key, padding): (_, Text, _) = (Text::from(&*draft.uid), user.into(), "x".repeat(draft.padding));
    let value = format!(
        r#"{{"type":"note","tenant":"{tenant}","user":"{user}","data":{{"uid":"{uid}","padding":"{padding}"}}}}"#
    );
    let sent = Box::new(Sent { key: key.clone(), uid: uid.clone(), acl: acl.clone() });
    let record =
        BaseRecord::with_opaque_to(TOPICS[draft.topic].name, sent).partition(partition).key(&*key).payload(&*value);
    // A partition that this client has not heard of yet.
    if producer.send(record).is_err() {
        producer.context().ground.recorder.note(Op::Unsure { uid });
    }
    producer.poll(Duration::ZERO);
}
