//! How many threads a part of the process starts where the configuration does not say.

use std::thread::available_parallelism;

/// Cores that this process may use, as the CPU limit of its cgroup and its affinity have it (std's
/// `available_parallelism`), but not more than `most`: on a large node without a CPU limit a sidecar is still a sidecar.
pub fn cores_up_to(most: usize) -> usize {
    available_parallelism().map_or(1, usize::from).min(most)
}
