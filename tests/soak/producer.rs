//! The producers: one idempotent, at an even pace through every outage, the others transactional; one note for each
//! record whose fate is known or never will be.

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

/// After so many milliseconds the brokers abort a transaction that was left open: until then nothing behind it is read.
const TRANSACTION_TIMEOUT_MS: &str = "10000";
/// How long one attempt to end a transaction may take.
const TRY: Duration = Duration::from_secs(5);
/// How long the last answers may take, and the fences'.
const FINISH: Duration = Duration::from_secs(60);

/// How many partitions each topic has.
pub type Partitions = [AtomicI32; TOPICS.len()];

/// Where the answers go.
pub struct Answers {
    ground: Arc<Ground>,
    fences: Mutex<Vec<Fence>>,
    /// What a transaction wrote: its fate is not known before the transaction's. Nothing without transactions.
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

/// Produces the seed's records for so long.
pub fn produce(brokers: &str, ground: &Arc<Ground>, seed: u64, duration: Duration, partitions: &Partitions) {
    // No timeout of its own: after one librdkafka sends the records behind it under a new epoch, some of them twice.
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

/// Writes transactions for so long, as one of the transactional producers, which are counted from 1. None is left open.
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
            // Aborted records have to be in the log as well: an abort alone would drop what is still in the queue.
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
            // A producer of the same id ends what this one left open.
            producer = connect_transactional(brokers, &ground, number);
        }
    }
}

/// Whether it was committed in the end, or aborted.
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

/// A producer of this number that may begin a transaction.
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

/// Produces a fence for everybody at the end of every partition.
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
    // A partition that this client has not heard of yet.
    if producer.send(record).is_err() {
        producer.context().ground.recorder.note(Op::Unsure { uid });
    }
    producer.poll(Duration::ZERO);
}
