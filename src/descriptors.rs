//! The limit of open descriptors, and a reserve that clients cannot use up.
//!
//! The kernel assigns the lowest free number. A new descriptor with a number near the limit therefore shows that few
//! are left, without counting.

use std::os::fd::RawFd;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::process::{Resource, getrlimit, setrlimit};

/// Descriptors reserved for probes, scrapes, files and Kafka.
pub const RESERVED: u64 = 64;

/// Descriptors from this number on are reserved.
static FIRST_RESERVED: AtomicU64 = AtomicU64::new(u64::MAX);

/// Raises the soft limit to the hard limit: a stream needs one descriptor, a proxied request two.
pub fn raise_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%error, "cannot raise the limit of open descriptors");
    }
    if let Some(limit) = getrlimit(Resource::Nofile).current {
        FIRST_RESERVED.store(first_reserved(limit), Ordering::Relaxed);
    }
}

/// Whether a client's connection with this descriptor must be closed.
pub fn is_reserved(descriptor: RawFd) -> bool {
    u64::try_from(descriptor).is_ok_and(|number| number >= FIRST_RESERVED.load(Ordering::Relaxed))
}

/// Half of the limit, if it is very small.
fn first_reserved(limit: u64) -> u64 {
    limit - RESERVED.min(limit / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_descriptors_are_reserved() {
        assert_eq!(first_reserved(1024), 960);
        assert_eq!(first_reserved(20), 10);
    }
}
