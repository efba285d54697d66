//! The memory limit of the process: samples the resident set a few times per second, and releases caches as it
//! approaches the limit, the cheapest first. docs/operations.md describes the levels.
//!
//! It determines the level; the owners of memory release it.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::Duration;

use prometheus::IntGauge;

use crate::codec::Encodings;
use crate::contain::contain;
use crate::listener::STALLED_SOCKET_BYTES;
use crate::metrics::Metrics;
use crate::source::Logs;
use crate::writer::{UNSENT_BYTES_MAX, Writers};

/// The sampling interval.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// The hysteresis in percent of the limit: a level is left only below its threshold by this much.
const HYSTERESIS: u64 = 5;
/// Samples between two halvings of the windows: freed memory is returned to the kernel after a second (`main`).
const LOOKS_PER_HALVING: u32 = 6;

/// A level of memory pressure; each includes all lower ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Level {
    Free,
    /// No encodings are kept for other sessions.
    Encodings,
    /// Almost no chunks of the log are cached.
    Pages,
    /// Replay windows are halved.
    Windows,
    /// New streams are rejected.
    Streams,
    /// Queued events of slow clients are dropped.
    Queues,
}

impl Level {
    /// The thresholds in percent of the limit.
    const LADDER: [(Self, u64); 5] =
        [(Self::Encodings, 70), (Self::Pages, 75), (Self::Windows, 80), (Self::Streams, 85), (Self::Queues, 90)];

    /// The level at this percentage of the limit, coming from `before`.
    fn at(percent: u64, before: Self) -> Self {
        let is_reached = |(level, from): &&(Self, u64)| {
            percent >= if before >= *level { from.saturating_sub(HYSTERESIS) } else { *from }
        };
        Self::LADDER.iter().take_while(is_reached).last().map_or(Self::Free, |(level, _)| *level)
    }
}

/// The current level.
#[derive(Clone, Debug, Default)]
pub struct Pressure(Arc<AtomicU8>);

impl Pressure {
    /// Whether new streams are rejected.
    pub fn refuses_streams(&self) -> bool {
        self.0.load(Ordering::Relaxed) >= Level::Streams as u8
    }
}

/// The limits, and the owners of memory.
pub struct Memory {
    /// In bytes. `None`: memory is only measured.
    pub limit: Option<usize>,
    /// The sizes of the caches of encodings and chunks without pressure, in bytes.
    pub encodings_max: usize,
    pub encodings: Arc<Encodings>,
    pub history: Arc<Logs>,
    pub writers: Writers,
    pub metrics: Arc<Metrics>,
    pub pressure: Pressure,
}

/// Stops the thread when dropped.
pub struct Watch(Arc<AtomicBool>);

impl Memory {
    /// Starts a thread that samples memory: notifying a writer may block.
    ///
    /// # Errors
    ///
    /// The thread cannot be started.
    pub fn watch(self) -> std::io::Result<Watch> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        self.metrics.memory.limit.set(self.limit.map_or(0, |bytes| bytes as i64));
        std::thread::Builder::new().name("memory".into()).spawn(move || self.run(&stopped))?;
        Ok(Watch(stop))
    }

    fn run(self, stopped: &AtomicBool) {
        let (mut level, mut looks_short) = (Level::Free, 0u32);
        while !stopped.load(Ordering::Relaxed) {
            // After a panic, which was logged, the next sample catches up.
            contain(|| self.look(&mut level, &mut looks_short));
            std::thread::sleep(LOOK_EVERY);
        }
    }

    fn look(&self, level: &mut Level, looks_short: &mut u32) {
        let used = self.used();
        let percent = self.limit.map_or(0, |limit| used.saturating_mul(100) / (limit as u64).max(1));
        let before = std::mem::replace(level, Level::at(percent, *level));
        if *level != before {
            self.step(before, *level, used);
        }
        self.limit_windows(before, *level, looks_short);
        if *level >= Level::Queues {
            self.writers.drop_backlogs();
        }
        self.show(used, *level);
    }

    fn step(&self, before: Level, level: Level, used: u64) {
        let limit = self.limit.unwrap_or(0);
        if level > before {
            tracing::warn!(used, limit, ?level, "memory pressure increased");
        } else {
            tracing::info!(used, limit, ?level, "memory pressure decreased");
        }
        self.pressure.0.store(level as u8, Ordering::Relaxed);
        self.encodings.limit(if level >= Level::Encodings { 0 } else { self.encodings_max });
        self.history.be_short(level >= Level::Pages);
    }

    /// Halves the windows repeatedly while the level persists. They grow again only once there is no pressure at all;
    /// otherwise they would be the first to use the freed memory.
    fn limit_windows(&self, before: Level, level: Level, looks_short: &mut u32) {
        if level >= Level::Windows {
            if looks_short.is_multiple_of(LOOKS_PER_HALVING) {
                let bytes = usize::try_from(self.metrics.memory.windows.get()).unwrap_or(0);
                self.writers.limit_windows(Some(bytes / 2));
            }
            *looks_short = looks_short.wrapping_add(1);
        } else {
            *looks_short = 0;
            if level == Level::Free && before != Level::Free {
                self.writers.limit_windows(None);
            }
        }
    }

    /// The resident set, and the kernel buffers of clients that do not read: a control group counts both.
    fn used(&self) -> u64 {
        let count = |gauge: &IntGauge| u64::try_from(gauge.get()).unwrap_or(0);
        let (slow, unread) = (count(&self.metrics.backlog.streams), count(&self.metrics.unread_responses));
        resident() + slow * u64::from(UNSENT_BYTES_MAX) + unread * STALLED_SOCKET_BYTES
    }

    fn show(&self, used: u64, level: Level) {
        let shown = &self.metrics.memory;
        let (kept, all) = (self.encodings.kept_bytes(), self.encodings.bytes());
        shown.used.set(used as i64);
        shown.level.set(level as i64);
        shown.encodings.set(kept.min(all) as i64);
        shown.queues.set(all.saturating_sub(kept) as i64);
        shown.pages.set(self.history.cached_bytes() as i64);
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Resident bytes without file mappings, which the kernel reclaims by itself; 0 if the system does not report them
/// (proc_pid_status(5)).
fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kib = |line: &str| line.strip_prefix("RssAnon:")?.trim().strip_suffix("kB")?.trim().parse::<u64>().ok();
    status.lines().find_map(kib).unwrap_or(0) * 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_level_is_left_below_its_threshold() {
        assert_eq!(Level::at(69, Level::Free), Level::Free);
        assert_eq!(Level::at(70, Level::Free), Level::Encodings);
        assert_eq!(Level::at(86, Level::Free), Level::Streams);
        assert_eq!(Level::at(200, Level::Free), Level::Queues);
        assert_eq!(Level::at(81, Level::Streams), Level::Streams);
        assert_eq!(Level::at(79, Level::Streams), Level::Windows);
        assert_eq!(Level::at(64, Level::Queues), Level::Free);
    }

    #[test]
    fn this_process_is_resident() {
        assert!(resident() > 1 << 20);
    }
}
