//! Default thread counts.

use std::thread::available_parallelism;

/// The cores that this process may use, by the CPU limit of its cgroup and its affinity (std's
/// `available_parallelism`), but at most `most`: on a large node without a CPU limit, a sidecar should stay small.
pub fn cores_up_to(most: usize) -> usize {
    available_parallelism().map_or(1, usize::from).min(most)
}
