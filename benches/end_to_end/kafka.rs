//! With Apache Kafka, one node on this machine: the rate of ingestion, and the latency from record to client.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;

use crate::clients::{self, Clients};
use crate::product::{self, BROADCAST, Feed, KEYED, Product, TRANSPORTS};
use crate::real_broker::RealBroker;
use crate::row::Row;
use crate::times::{self, Taken};
use crate::{Fallible, Plan};

/// One, so that the last record of a run is read last.
const PARTITIONS: i32 = 1;
const RECORDS: usize = 200_000;
/// None of them has a subscriber.
const USERS: usize = 90_000;
const CLIENTS: usize = 100;
const EVENTS_PER_S: u32 = 1_000;
/// The first events meet cold caches and a JVM that is still compiling.
const WARM_UP: Duration = Duration::from_secs(3);

pub fn rows(plan: &Plan) -> Fallible<Vec<Row>> {
    let place = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let broker = RealBroker::start("bench", place, place);
    create_topics(&broker.address)?;
    let product = Product::start(&broker.address, "127.0.0.1:9")?;
    let feed = Feed::to(&broker.address)?;
    let batches = Feed::in_batches(&broker.address)?;
    let runs = (0..plan.fresh).map(|_| ingest(&product, &batches)).collect::<Fallible<Vec<_>>>()?;
    let (rates, shares): (Vec<_>, Vec<_>) = runs.into_iter().unzip();
    let p99 = (0..plan.fresh).map(|_| latency(plan, &product, &feed)).collect::<Fallible<Vec<_>>>()?.concat();
    Ok(vec![
        Row::of_values("ingest_per_core", "records a second of CPU", &rates, ">=300000"),
        Row::of_values("ingest_librdkafka", "% of that CPU, in librdkafka's threads", &shares, "<=100"),
        Row::of_values("latency_p99_ms", "ms", &p99, "<=10"),
    ])
}

fn create_topics(brokers: &str) -> Fallible<()> {
    let admin: AdminClient<DefaultClientContext> = ClientConfig::new().set("bootstrap.servers", brokers).create()?;
    let topics = [BROADCAST, KEYED].map(|name| NewTopic::new(name, PARTITIONS, TopicReplication::Fixed(1)));
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    for result in runtime.block_on(admin.create_topics(&topics, &AdminOptions::new()))? {
        result.map_err(|(_, code)| code)?;
    }
    Ok(())
}

/// Small records without subscribers, and one at the end for the single client. Returns records per second of CPU time,
/// because the producer and Kafka share the cores, and the percentage of that CPU time in librdkafka's own threads.
fn ingest(product: &Product, feed: &Feed) -> Fallible<(f64, f64)> {
    let last = product::user(0);
    let client = clients::connect(product.address, [product::request(&format!("/users/{last}"))].into_iter())?;
    let client = Clients::read(client)?;
    let threads = product.server.threads()?;
    for n in 1..RECORDS {
        let user = product::user(n % USERS + 1);
        feed.send(KEYED, Some(0), &format!(r#"{{"type":"bench","user":"{user}","data":{n}}}"#))?;
    }
    feed.flush()?;
    feed.send(KEYED, Some(0), &product::envelope(Some(&last), &product::data(1)))?;
    client.await_deliveries(1)?;
    let (cpu, theirs) = (product.server.cpu_since(&threads)?, product.server.cpu_of("rdk:", &threads)?);
    client.close()?;
    Ok((RECORDS as f64 / cpu.as_secs_f64(), theirs.as_secs_f64() / cpu.as_secs_f64() * 100.0))
}

/// The 99th percentile of each transport's clients in one run, in milliseconds.
fn latency(plan: &Plan, product: &Product, feed: &Feed) -> Fallible<Vec<f64>> {
    let start = Instant::now();
    let (skip, count) = (EVENTS_PER_S * WARM_UP.as_secs() as u32, EVENTS_PER_S * (plan.time * 3).as_secs() as u32);
    let readers: Vec<_> = TRANSPORTS
        .iter()
        .map(|transport| {
            let requests = (0..CLIENTS / TRANSPORTS.len() + 1).map(|_| product::request(&format!("/{transport}")));
            let sockets = clients::connect(product.address, requests)?;
            Ok(thread::spawn(move || times::read(sockets, start).map_err(|error| error.to_string())))
        })
        .collect::<Fallible<_>>()?;
    let begin = Instant::now();
    for n in 0..skip + count {
        thread::sleep((begin + Duration::from_secs(1) * n / EVENTS_PER_S).saturating_duration_since(Instant::now()));
        feed.send(BROADCAST, Some(0), &times::envelope(start))?;
    }
    feed.send(BROADCAST, Some(0), &times::last())?;
    feed.flush()?;
    let warm = u64::try_from((begin + WARM_UP - start).as_micros())?;
    let mut all = Vec::new();
    for reader in readers {
        let mut taken: Vec<Taken> = reader.join().map_err(|_| "a reader failed")??;
        taken.retain(|event| event.sent_us >= warm);
        all.push(times::p99_ms(&taken));
    }
    Ok(all)
}
