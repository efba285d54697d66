//! The descriptors that the process may have, of which the last ones are kept from those whom clients can make it open.
//!
//! The system gives out the lowest number that is free. So a new descriptor with a number near the limit says that few are
//! left, without anybody counting.

use std::os::fd::RawFd;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::process::{Resource, getrlimit, setrlimit};

/// Descriptors for probes, scrapes, files and Kafka.
pub const RESERVED: u64 = 64;

/// From this number on, descriptors are reserved.
static FIRST_RESERVED: AtomicU64 = AtomicU64::new(u64::MAX);

/// Takes as many descriptors as the process may have: every stream is one, and a proxied request two.
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

/// Whether a client's connection that got this descriptor has to be closed.
pub fn is_reserved(descriptor: RawFd) -> bool {
    u64::try_from(descriptor).is_ok_and(|number| number >= FIRST_RESERVED.load(Ordering::Relaxed))
}

/// Half of a very small number.
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
