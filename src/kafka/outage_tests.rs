//! Brokers, topics and clusters that are unavailable for a while, or appear late.

use std::time::Duration;

use rdkafka::mocking::MockCoordinator;

use super::tests::{Bench, PATIENCE, until};
use super::*;
use crate::event::Feed;
use crate::source::stop_all;

#[test]
fn an_outage_loses_and_repeats_no_records() {
    let bench = Bench::new(&[("orders", 2)], &["orders"]);
    let (source, mut feeds) = bench.start();
    assert_eq!(feeds.assigned(), "orders [0, 0]");
    bench.produce("orders", 0, 1, "{}");
    assert_eq!(feeds.places(1), ["orders:0:0"]);

    bench.broker.cluster().unwrap().broker_down(-1).unwrap();
    until("the outage is seen", || !source.status().connected);
    assert_eq!(bench.metrics.kafka_connected.get(), 0);
    assert!(source.status().warm, "an outage does not make the window cold");
    bench.broker.cluster().unwrap().broker_up(-1).unwrap();
    until("its end is seen", || source.status().connected);
    bench.produce("orders", 1, 2, "{}");
    bench.produce("orders", 0, 3, "{}");
    let mut places = feeds.places(2);
    places.sort();
    assert_eq!(places, ["orders:0:1", "orders:1:0"]);
    assert!(bench.metrics.kafka_errors.with_label_values(&["transport"]).get() > 0);
}

#[test]
fn leaders_may_move() {
    let bench = Bench::of_three(&[("orders", 1)], &["orders"]);
    let (_source, mut feeds) = bench.start();
    assert_eq!(feeds.assigned(), "orders [0]");
    for (offset, leader) in [2, 3, 1].into_iter().enumerate() {
        bench.broker.cluster().unwrap().partition_leader("orders", 0, Some(leader)).unwrap();
        bench.broker.cluster().unwrap().coordinator(MockCoordinator::Group("sidestream".into()), leader).unwrap();
        bench.produce("orders", 0, 1, "{}");
        assert_eq!(feeds.places(1), [format!("orders:0:{offset}")]);
    }
}

#[test]
fn a_leader_that_does_not_respond_delays_only_its_own_topics() {
    let bench = Bench::of_three(&[("there", 1), ("away", 2)], &["away", "there"]);
    bench.broker.cluster().unwrap().broker_down(2).unwrap();
    let (_source, mut feeds) = bench.start();
    assert_eq!(feeds.assigned(), "there [0]");
    bench.produce("there", 0, 1, "{}");
    assert_eq!(feeds.places(1), ["there:0:0"]);
    bench.broker.cluster().unwrap().broker_up(2).unwrap();
    assert_eq!(feeds.assigned(), "away [0]");
    bench.produce("away", 0, 1, "{}");
    assert_eq!(feeds.places(1), ["away:0:0"]);
}

#[test]
fn kafka_may_appear_after_the_warm_up() {
    let mut bench = Bench::new(&[("orders", 1)], &["orders"]);
    bench.produce("orders", 0, 1, "{}");
    bench.broker.cluster().unwrap().broker_down(-1).unwrap();
    bench.config.warm_up = Duration::from_millis(1);
    let (source, mut feeds) = bench.start();
    until("readiness waits no longer", || source.status().warm);
    assert!(!source.status().connected);

    bench.broker.cluster().unwrap().broker_up(-1).unwrap();
    assert_eq!(feeds.assigned(), "orders [0]");
    assert_eq!(feeds.places(1), ["orders:0:0"]);
}

#[test]
fn a_missing_topic_delays_no_other_and_is_found_later() {
    let bench = Bench::new(&[("orders", 1)], &["later", "orders"]);
    bench.produce("orders", 0, 1, "{}");
    let (source, mut feeds) = bench.start();
    assert_eq!(feeds.assigned(), "orders [0]");
    assert_eq!(feeds.places(1), ["orders:0:0"]);
    until("warm without it", || source.status().warm);
    assert!(bench.metrics.kafka_errors.with_label_values(&["topic"]).get() > 0);

    bench.broker.cluster().unwrap().create_topic("later", 2, 1).unwrap();
    bench.produce("later", 1, 1, "{}");
    assert_eq!(feeds.assigned(), "later [0, 0]");
    assert_eq!(feeds.places(1), ["later:1:0"]);
    bench.produce("orders", 0, 1, "{}");
    assert_eq!(feeds.places(1), ["orders:0:1"]);
}

#[test]
fn waiting_for_a_cluster_is_limited() {
    let mut bench = Bench::new(&[("orders", 1)], &["orders"]);
    bench.broker.cluster().unwrap().broker_down(-1).unwrap();
    bench.config.warm_up = Duration::from_millis(1);
    let (_source, feeds) = bench.start();
    let Feed::Live { topics } = feeds.receiver.recv_timeout(PATIENCE).unwrap() else { panic!("nothing can be read") };
    assert_eq!(*topics, ["orders".into()]);
}

#[test]
fn each_connected_cluster_counts() {
    let (eu, us) = (Bench::new(&[("orders", 1)], &["orders"]), Bench::new(&[("orders", 1)], &["orders"]));
    let us = Bench { metrics: eu.metrics.clone(), ..us };
    let ((one, mut of_eu), (two, mut of_us)) = (eu.start(), us.start());
    assert_eq!((of_eu.assigned(), of_us.assigned()), ("orders [0]".into(), "orders [0]".into()));
    until("both are connected", || eu.metrics.kafka_connected.get() == 2);
    us.broker.cluster().unwrap().broker_down(-1).unwrap();
    until("one is", || eu.metrics.kafka_connected.get() == 1);
    stop_all(vec![Box::new(one), Box::new(two)]);
    assert_eq!(eu.metrics.kafka_connected.get(), 0, "those that ended are not connected");
}
