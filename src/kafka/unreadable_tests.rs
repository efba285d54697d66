//! Batches that the Kafka client cannot read.

use super::tests::{Bench, produce_batch, stop};

#[test]
fn a_batch_that_cannot_be_decompressed_is_skipped_with_a_gap() {
    let bench = Bench::new(&[("orders", 2)], &["orders"]).with_small_responses();
    let (source, mut feeds) = bench.start();
    assert_eq!(feeds.assigned(), "orders [0, 0]");
    bench.produce("orders", 0, 1, "{}");
    assert_eq!(feeds.places(1), ["orders:0:0"]);
    produce_batch(&bench.config.brokers, "orders", 0, "zstd", 13, 100_000);
    bench.produce("orders", 0, 2, "{}");
    assert_eq!(feeds.places(2), ["unreadable orders:0:1-13", "orders:0:14"]);
    assert_eq!(bench.metrics.unreadable_batches.with_label_values(&["orders"]).get(), 1);
    assert_eq!(bench.metrics.undecodable.with_label_values(&["orders"]).get(), 0);
    stop(source);
}

#[test]
fn a_batch_larger_than_a_response_is_skipped_and_delays_no_other_partition() {
    let bench = Bench::new(&[("orders", 1), ("notes", 1)], &["orders", "notes"]).with_small_responses();
    let (source, mut feeds) = bench.start();
    assert_eq!((feeds.assigned(), feeds.assigned()), ("orders [0]".into(), "notes [0]".into()));
    produce_batch(&bench.config.brokers, "orders", 0, "none", 3, 200_000);
    bench.produce("orders", 0, 2, "{}");
    bench.produce("notes", 0, 3, "{}");
    let mut places = feeds.places(3);
    places.sort_unstable();
    assert_eq!(places, ["notes:0:0", "orders:0:3", "unreadable orders:0:0-2"]);
    stop(source);
}

#[test]
fn an_unreadable_batch_in_the_warm_up_is_a_gap_in_its_place() {
    let bench = Bench::new(&[("orders", 1)], &["orders"]).with_small_responses();
    bench.produce("orders", 0, 1, "{}");
    produce_batch(&bench.config.brokers, "orders", 0, "zstd", 5, 100_000);
    bench.produce("orders", 0, 2, "{}");
    // The window has three events: reading begins in the middle of the batch.
    let (source, mut feeds) = bench.start();
    assert_eq!(feeds.assigned(), "orders [4]");
    assert_eq!(feeds.places(2), ["unreadable orders:0:4-5", "orders:0:6"]);
    stop(source);
}
