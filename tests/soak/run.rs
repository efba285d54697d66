//! One run: replicas, clients and producers, from an empty log to the last fence.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Mutex, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use crate::client::{Client, Ground};
use crate::history::{Record, Recorder};
use crate::personas::everybody;
use crate::plan::{REPLICAS, TRANSACTIONAL, faults};
use crate::world::World;
use crate::{log, producer};

/// How long clients may take from the last fault to the fences.
const FINISH: Duration = Duration::from_secs(60);
const LOOK_AGAIN: Duration = Duration::from_millis(50);

pub struct Run {
    /// The duration of faults and producers, without start and end.
    pub duration: Duration,
    pub seed: u64,
    /// The file for the history.
    pub history: Option<PathBuf>,
}

impl Run {
    /// Returns the history.
    pub fn carry_out(&self) -> Vec<Record> {
        let ground = Arc::new(Ground {
            recorder: Recorder::new(self.history.as_deref()),
            addresses: Mutex::new(vec![None; REPLICAS]),
            fences: OnceLock::new(),
            over: AtomicBool::new(false),
        });
        let mut world = World::start(&format!("soak-{}", self.seed), ground.clone());
        world.await_ready();
        self.stir(&mut world, &ground);
        world.look_after_replicas();
        log::read(&world.brokers(), &world.partitions, &ground.recorder);
        ground.recorder.take()
    }

    fn stir(&self, world: &mut World, ground: &Arc<Ground>) {
        // Ends clients and producers even if this thread panics.
        let _over = Over(ground);
        let (fault_senders, clients): (Vec<_>, Vec<_>) = everybody()
            .into_iter()
            .enumerate()
            .map(|(number, persona)| {
                let ((sender, client_faults), cursor) = (channel(), world.first_cursor(&persona));
                let client = Client::new(number, persona, ground.clone(), client_faults, self.seed, cursor);
                (sender, thread::spawn(|| client.run()))
            })
            .unzip();
        world.attend(fault_senders);
        let (brokers, partitions) = (world.brokers(), world.partitions.clone());
        let (seed, duration, shared) = (self.seed, self.duration, ground.clone());
        let transactional: Vec<_> = (1..=TRANSACTIONAL)
            .map(|n| {
                let (brokers, partitions) = (brokers.clone(), partitions.clone());
                let producer = producer::connect_transactional(&brokers, &shared, n);
                thread::spawn(move || producer::transact(producer, &brokers, (seed, n), duration, &partitions))
            })
            .collect();
        let producer = thread::spawn(move || producer::produce(&brokers, &shared, seed, duration, &partitions));
        world.carry_out(&faults(self.seed, self.duration, clients.len()));
        producer.join().expect("the producer");
        transactional.into_iter().for_each(|producer| producer.join().expect("a transactional producer"));
        let fences = producer::fence(&world.brokers(), ground, &world.partitions);
        assert!(ground.fences.set(fences).is_ok());
        let deadline = Instant::now() + FINISH;
        while Instant::now() < deadline && !clients.iter().all(thread::JoinHandle::is_finished) {
            thread::sleep(LOOK_AGAIN);
        }
        ground.over.store(true, Ordering::Relaxed);
        clients.into_iter().for_each(|client| client.join().expect("a client"));
    }
}

struct Over<'a>(&'a Ground);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.over.store(true, Ordering::Relaxed);
    }
}
