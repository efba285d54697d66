//! The memory limit of the process: what is resident is looked at a few times a second, and as it comes near the limit
//! what is kept is given up, the cheapest first. docs/operations.md has the ladder.
//!
//! It decides how far up the ladder the process stands; what a step means is the business of who holds the memory.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::Duration;

use crate::codec::Encodings;
use crate::contain::contain;
use crate::kafka::history::History;
use crate::metrics::Metrics;
use crate::writer::{UNSENT_BYTES_MAX, Writers};

/// How often memory is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Percent of the limit by which what is resident has to fall below a step before it is left.
const HYSTERESIS: u64 = 5;
/// Looks from one halving of the windows to the next: what was freed leaves the process after a second (`main`).
const LOOKS_PER_HALVING: u32 = 6;

/// A step of the ladder; each holds all those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Level {
    Free,
    /// Encodings are kept for nobody.
    Encodings,
    /// Pages of the log are hardly kept.
    Pages,
    /// Windows shrink.
    Windows,
    /// New streams are refused.
    Streams,
    /// What waits for slow clients is dropped.
    Queues,
}

impl Level {
    /// From which percentage of the limit on.
    const LADDER: [(Self, u64); 5] =
        [(Self::Encodings, 70), (Self::Pages, 75), (Self::Windows, 80), (Self::Streams, 85), (Self::Queues, 90)];

    /// With so many percent of the limit used, coming from `before`.
    fn at(percent: u64, before: Self) -> Self {
        let is_reached = |(level, from): &&(Self, u64)| {
            percent >= if before >= *level { from.saturating_sub(HYSTERESIS) } else { *from }
        };
        Self::LADDER.iter().take_while(is_reached).last().map_or(Self::Free, |(level, _)| *level)
    }
}

/// Where the process stands on the ladder.
#[derive(Clone, Debug, Default)]
pub struct Pressure(Arc<AtomicU8>);

impl Pressure {
    /// Whether a new stream would be too much.
    pub fn refuses_streams(&self) -> bool {
        self.0.load(Ordering::Relaxed) >= Level::Streams as u8
    }
}

/// What the limits are and who holds memory.
pub struct Memory {
    /// Bytes. Nothing: it is looked at for the metrics only.
    pub limit: Option<usize>,
    /// Bytes of encodings, and of pages, that are kept where there is room.
    pub encodings_max: usize,
    pub encodings: Arc<Encodings>,
    pub history: Arc<History>,
    pub writers: Writers,
    pub metrics: Arc<Metrics>,
    pub pressure: Pressure,
}

/// Stops the thread when it is dropped.
pub struct Watch(Arc<AtomicBool>);

impl Memory {
    /// Looks at it on a thread of its own: telling a writer may block.
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
            // After a panic, which was logged, the next look does what this one did not.
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

    /// Halves the windows as long as memory is that short. They may grow again once nothing is given up any more: were it
    /// earlier, they would be the first to take what was freed.
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

    /// Bytes that are resident, and those that the kernel holds for slow streams: a control group counts both.
    fn used(&self) -> u64 {
        let slow = u64::try_from(self.metrics.backlog.streams.get()).unwrap_or(0);
        resident() + slow * u64::from(UNSENT_BYTES_MAX)
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

/// Bytes of resident memory but for that of files, which the kernel takes back by itself; 0 where the system does not say
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
    fn each_step_is_left_somewhat_below_where_it_was_entered() {
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
