//! A simulated replica: a reader, writers and the log behind their windows.

use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;

use super::replay::{Replay, Shared};
use crate::codec::Encodings;
use crate::config::snapshot::TopicConfig;
use crate::event::Topic;
use crate::hub::{Log, ReplayLimits, WindowLimits};
use crate::kafka::simulation::Reader;
use crate::metrics::Metrics;
use crate::session::{Now, Request};
use crate::writer::simulation::{ClientSide, Writer};

/// The bytes of encodings that are kept.
const ENCODINGS_BYTES: usize = 20_000;

/// What all replicas have in common.
pub(super) struct Settings {
    pub(super) topics: Vec<TopicConfig>,
    pub(super) writers: u32,
    pub(super) limits: ReplayLimits,
    pub(super) metrics: Arc<Metrics>,
}

pub(super) struct Replica {
    cluster: Shared,
    reader: Reader,
    writers: Vec<Writer>,
    replay: Arc<Replay>,
    /// The source does not read before this time.
    paused_until_ms: i64,
    /// The end of a drain.
    ends_at_ms: Option<i64>,
}

impl Replica {
    pub(super) fn start(settings: &Settings, cluster: &Shared, now: Now, rng: &mut Rng) -> Self {
        let Settings { topics, writers, limits, metrics } = settings;
        let replay = Arc::new(Replay::new(cluster, topics, *limits, rng.fork(), now));
        let log: Arc<dyn Log> = replay.clone();
        let encodings = Arc::new(Encodings::new(ENCODINGS_BYTES));
        let windows: Vec<(Topic, WindowLimits)> = topics
            .iter()
            .map(|topic| (topic.name.clone(), WindowLimits { events: topic.replay_events, bytes: topic.replay_bytes }))
            .collect();
        let writer = |number| Writer::new(number, &windows, &log, &encodings, metrics, now);
        Self {
            cluster: cluster.clone(),
            reader: Reader::new(topics, metrics, now),
            writers: (0..*writers).map(writer).collect(),
            replay,
            paused_until_ms: 0,
            ends_at_ms: None,
        }
    }

    pub(super) fn pause(&mut self, until_ms: i64) {
        self.paused_until_ms = until_ms;
    }

    /// Ends all streams within this time, and then the replica.
    pub(super) fn drain(&mut self, within: Duration, now: Now) {
        self.ends_at_ms = Some(now.unix_ms + within.as_millis() as i64);
        self.writers.iter_mut().for_each(|writer| writer.drain(within, now));
    }

    pub(super) fn is_draining(&self) -> bool {
        self.ends_at_ms.is_some()
    }

    /// Whether all of its threads know which logs were truncated.
    pub(super) fn knows_truncations(&self) -> bool {
        let is_read = self.reader.knows_truncations(&self.cluster.lock().unwrap());
        is_read && self.writers.iter().all(Writer::knows_truncations)
    }

    pub(super) fn has_ended(&self, now: Now) -> bool {
        self.ends_at_ms.is_some_and(|at| at <= now.unix_ms)
    }

    pub(super) fn open(&mut self, request: Request, room: usize, jitter: f64, now: Now, rng: &mut Rng) -> ClientSide {
        let writer = rng.usize(..self.writers.len());
        self.writers[writer].open(request, room, jitter, now)
    }

    /// One step of every thread, each as far as it comes.
    pub(super) fn step(&mut self, now: Now, rng: &mut Rng) {
        let Self { cluster, reader, writers, replay, paused_until_ms, .. } = self;
        if now.unix_ms >= *paused_until_ms {
            let cluster = cluster.lock().unwrap();
            reader.step(&cluster, now, rng, &mut |feed| {
                writers.iter_mut().for_each(|writer| writer.feed(feed.clone()));
            });
        }
        for (writer, session) in replay.advance(now) {
            writers[writer as usize].call(session, now);
        }
        for writer in writers {
            // Sometimes none: the writer is behind the others.
            writer.run(rng.usize(0..4) * 4, now);
        }
    }
}
