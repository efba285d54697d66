//! The producers: one idempotent, at an even rate through every outage, and transactional ones. Each record is noted
//! once its outcome is known, or is known to stay unknown.

use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};

use crate::client::{Fence, Ground};
use crate::history::{FENCE, Op, Place, Text};
use crate::plan::{Draft, RATE, TOPICS, acls, drafts, transactions};

/// The time after which brokers abort an open transaction, in milliseconds: until then, later records are not readable.
const TRANSACTION_TIMEOUT_MS: &str = "10000";
/// The timeout of one attempt to end a transaction.
const TRY: Duration = Duration::from_secs(5);
/// The time limit for the last acknowledgements, and for those of the fences.
const FINISH: Duration = Duration::from_secs(60);

/// The number of partitions of each topic.
pub type Partitions = [AtomicI32; TOPICS.len()];

/// Receives acknowledgements.
pub struct Answers {
    ground: Arc<Ground>,
    fences: Mutex<Vec<Fence>>,
    /// The records of the current transaction, whose outcome determines theirs. `None` without transactions.
    written: Option<Mutex<Vec<Op>>>,
}

pub struct Sent {
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
        let produced = Op::Produce { place, key, uid, acl };
        match &self.written {
            Some(written) => written.lock().unwrap().push(produced),
            None => self.ground.recorder.note(produced),
        }
    }
}

/// Produces the seed's records for this long.
pub fn produce(brokers: &str, ground: &Arc<Ground>, seed: u64, duration: Duration, partitions: &Partitions) {
    // No timeout: after one, librdkafka sends later records with a new epoch, and some of them twice.
    let producer = connect(brokers, ground, &[]);
    let start = Instant::now();
    let count = duration.as_secs_f64() * f64::from(RATE);
    for (n, draft) in (0..count as u32).zip(drafts(seed, 0)) {
        let due = start + Duration::from_secs(1) * n / RATE;
        while Instant::now() < due {
            producer.poll(due.saturating_duration_since(Instant::now()));
        }
        send(&producer, &draft, partition_of(&draft, partitions));
    }
    producer.flush(FINISH).unwrap();
}

/// Runs transactions for this long, as one of the transactional producers (numbered from 1). None stays open.
pub fn transact(
    mut producer: BaseProducer<Answers>,
    brokers: &str,
    (seed, number): (u64, usize),
    duration: Duration,
    partitions: &Partitions,
) {
    let end = Instant::now() + duration;
    let ground = producer.context().ground.clone();
    let mut drafts = drafts(seed, number);
    for transaction in transactions(seed, number) {
        thread::sleep(transaction.pause);
        if Instant::now() >= end {
            return;
        }
        let outcome = producer.begin_transaction().and_then(|()| {
            for draft in drafts.by_ref().take(transaction.records) {
                send(&producer, &draft, partition_of(&draft, partitions));
            }
            // Aborted records must be in the log as well: aborting would purge those that are still queued.
            producer.flush(FINISH)?;
            if transaction.is_committed { commit(&producer) } else { abort(&producer) }
        });
        let written = producer.context().written.as_ref().map(|written| std::mem::take(&mut *written.lock().unwrap()));
        for op in written.unwrap_or_default() {
            let Op::Produce { uid, .. } = &op else { continue };
            let uid = uid.clone();
            ground.recorder.note(match outcome {
                Ok(true) => op,
                Ok(false) => Op::Aborted { uid },
                Err(_) => Op::Unsure { uid },
            });
        }
        if outcome.is_err() {
            // A new producer with the same id ends the open transaction of the previous one.
            producer = connect_transactional(brokers, &ground, number);
        }
    }
}

/// Whether the transaction was finally committed, or else aborted.
fn commit(producer: &BaseProducer<Answers>) -> KafkaResult<bool> {
    match retried(|| producer.commit_transaction(TRY)) {
        Ok(()) => Ok(true),
        Err(KafkaError::Transaction(error)) if error.txn_requires_abort() => abort(producer),
        Err(error) => Err(error),
    }
}

fn abort(producer: &BaseProducer<Answers>) -> KafkaResult<bool> {
    retried(|| producer.abort_transaction(TRY)).map(|()| false)
}

fn retried(mut attempt: impl FnMut() -> KafkaResult<()>) -> KafkaResult<()> {
    let deadline = Instant::now() + FINISH;
    loop {
        match attempt() {
            Err(KafkaError::Transaction(error)) if error.is_retriable() && Instant::now() < deadline => {}
            outcome => return outcome,
        }
    }
}

/// A producer of this number that can begin a transaction.
pub fn connect_transactional(brokers: &str, ground: &Arc<Ground>, number: usize) -> BaseProducer<Answers> {
    let id = format!("soak-{number}");
    let settings = [("transactional.id", &*id), ("transaction.timeout.ms", TRANSACTION_TIMEOUT_MS)];
    let deadline = Instant::now() + FINISH;
    loop {
        let producer = connect(brokers, ground, &settings);
        match retried(|| producer.init_transactions(TRY)) {
            Ok(()) => return producer,
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
    }
}

fn partition_of(draft: &Draft, partitions: &Partitions) -> i32 {
    (draft.draw % partitions[draft.topic].load(Ordering::Relaxed) as u32) as i32
}

/// Produces a fence for every access scope at the end of every partition.
pub fn fence(brokers: &str, ground: &Arc<Ground>, partitions: &Partitions) -> Vec<Fence> {
    let producer = connect(brokers, ground, &[]);
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

fn connect(brokers: &str, ground: &Arc<Ground>, settings: &[(&str, &str)]) -> BaseProducer<Answers> {
    let is_transactional = settings.iter().any(|(name, _)| *name == "transactional.id");
    let written = is_transactional.then(Mutex::default);
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", brokers)
        .set("enable.idempotence", "true")
        .set("linger.ms", "5")
        .set("reconnect.backoff.max.ms", "200")
        .set("topic.metadata.refresh.interval.ms", "500");
    for (name, value) in settings {
        config.set(*name, *value);
    }
    let producer: BaseProducer<Answers> =
        config.create_with_context(Answers { ground: ground.clone(), fences: Mutex::default(), written }).unwrap();
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
    // The client does not know the partition yet.
    if producer.send(record).is_err() {
        producer.context().ground.recorder.note(Op::Unsure { uid });
    }
    producer.poll(Duration::ZERO);
}
