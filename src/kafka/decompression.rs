//! The limit of a decompressed batch, for the codecs that librdkafka does not bound. The binary applies it, by
//! replacing functions of the decompressors; they have no other access to the configuration of a client.

use std::sync::atomic::{AtomicUsize, Ordering};

/// librdkafka's default of `receive.message.max.bytes`.
const RECEIVE_BYTES: usize = 100_000_000;

static BYTES_MAX: AtomicUsize = AtomicUsize::new(0);

/// Allows what a client may receive, `receive.message.max.bytes`. The largest one of all clients applies.
pub(super) fn allow(receive: Option<&str>) {
    let bytes = receive.and_then(|text| text.trim().parse().ok()).unwrap_or(RECEIVE_BYTES);
    BYTES_MAX.fetch_max(bytes, Ordering::Relaxed);
}

/// The most bytes into which a batch is decompressed.
pub fn decompressed_bytes_max() -> usize {
    BYTES_MAX.load(Ordering::Relaxed)
}
