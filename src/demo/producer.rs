//! Produces records to the demo's topics in one thread: continuously, and on request (orders, bursts, and outages of
//! the broker).
//!
//! It decides which events occur and when; the embedded broker handles delivery.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::Serialize;

use super::shop::{Accepted, ORDERS_MAX, Order, SEEDED, Shop, Status};
use crate::kafka::embedded::Embedded;

pub(super) const ORDERS_TOPIC: &str = "orders";
/// The current orders: the value is the order, or null for a deleted one.
pub(super) const ORDER_STATES_TOPIC: &str = "order-states";
pub(super) const NOTIFICATIONS_TOPIC: &str = "notifications";
/// The users that receive notifications and tokens.
pub(super) const USERS: [&str; 2] = ["u123", "u456"];

/// Each tick produces one event for a seeded order or a user, in turn: with five of them, each gets 2.5 events per
/// second.
const TICK: Duration = Duration::from_millis(80);
const TURNS: usize = SEEDED.len() + USERS.len();
/// Ticks between two status changes of a placed order.
const TICKS_PER_STEP: usize = 10;

/// The most events of one burst.
pub(super) const BURST_EVENTS_MAX: usize = 10_000;
/// Events of a burst per tick: fewer than the smallest queue in `demo.yaml`, so that only a client that does not read
/// loses events.
const BURST_EVENTS_PER_TICK: usize = 250;
/// Padding of a burst event, in bytes: a few thousand events then fill the buffers of browser and kernel.
const BURST_PADDING: usize = 1_000;
/// The number of distinct keys in a burst.
const BURST_KEYS: usize = 64;
/// The duration of a broker outage.
pub(super) const OUTAGE: Duration = Duration::from_secs(3);

/// A request of the REST service to the producer.
#[derive(Debug, PartialEq)]
pub(super) enum Ask {
    Order(Accepted),
    /// Reports a changed order.
    Changed(Order),
    /// Reports the deletion of the order with this id.
    Deleted(String),
    /// Produces this many events as fast as clients can read them, at most [`BURST_EVENTS_MAX`].
    Burst(usize),
    /// Stops the broker for [`OUTAGE`].
    Outage,
}

/// Starts the producer thread. It ends when the sender of `asks` is dropped.
///
/// # Errors
///
/// The thread cannot be spawned.
pub(super) fn start(broker: Embedded, shop: Arc<Shop>, asks: Receiver<Ask>) -> io::Result<JoinHandle<()>> {
    let producer = Producer { broker, shop, underway: VecDeque::new(), burst: 0, back: None, failing: false };
    thread::Builder::new().name("demo-producer".into()).spawn(move || producer.run(&asks))
}

struct Producer {
    broker: Embedded,
    shop: Arc<Shop>,
    /// Placed orders that are not delivered yet, at most [`ORDERS_MAX`].
    underway: VecDeque<String>,
    /// The remaining events of a burst.
    burst: usize,
    /// The end of an outage.
    back: Option<Instant>,
    /// Whether the last record was rejected, so that an outage is logged once.
    failing: bool,
}

impl Producer {
    fn run(mut self, asks: &Receiver<Ask>) {
        let mut due = Instant::now();
        for tick in 0.. {
            if !self.serve_until(due, asks) {
                return;
            }
            self.tick(tick);
            self.continue_burst();
            self.end_outage();
            // After a stall, missed ticks are skipped.
            due = (due + TICK).max(Instant::now());
        }
    }

    /// Serves requests until `due`; false once the sender is dropped.
    fn serve_until(&mut self, due: Instant, asks: &Receiver<Ask>) -> bool {
        loop {
            let left = due.saturating_duration_since(Instant::now());
            match asks.recv_timeout(left) {
                Ok(Ask::Order(order)) => self.make(&order),
                Ok(Ask::Changed(order)) => self.produce_order(&order),
                Ok(Ask::Deleted(id)) => self.produce_deletion(&id),
                Ok(Ask::Burst(events)) => self.burst = (self.burst + events).min(BURST_EVENTS_MAX),
                Ok(Ask::Outage) => self.begin_outage(),
                Err(RecvTimeoutError::Timeout) => return true,
                Err(RecvTimeoutError::Disconnected) => return false,
            }
            if Instant::now() >= due {
                return true;
            }
        }
    }

    fn begin_outage(&mut self) {
        if self.back.is_none() && self.set_reachable(false) {
            self.back = Some(Instant::now() + OUTAGE);
        }
    }

    fn end_outage(&mut self) {
        if self.back.is_some_and(|back| back <= Instant::now()) && self.set_reachable(true) {
            self.back = None;
        }
    }

    fn set_reachable(&self, reachable: bool) -> bool {
        let outcome = self.broker.set_reachable(reachable);
        match &outcome {
            Ok(()) => tracing::info!(reachable, "the demo's broker was switched"),
            Err(error) => tracing::warn!(reachable, %error, "the demo's broker cannot be switched"),
        }
        outcome.is_ok()
    }

    fn continue_burst(&mut self) {
        let now = self.burst.min(BURST_EVENTS_PER_TICK);
        self.burst -= now;
        let padding = ".".repeat(if now > 0 { BURST_PADDING } else { 0 });
        for left in (self.burst..self.burst + now).rev() {
            // Many keys spread the burst over all partitions.
            let order_id = format!("burst-{}", left % BURST_KEYS);
            let data = BurstData { left, padding: &padding };
            let record = OrderRecord { ts: unix_ms(), kind: "burst", order_id: &order_id, data };
            self.produce(ORDERS_TOPIC, &order_id, &record);
        }
    }

    fn make(&mut self, accepted: &Accepted) {
        let (order, evicted) = self.shop.create(accepted);
        self.produce_order(&order);
        evicted.iter().for_each(|id| self.produce_deletion(id));
        self.shop.complete(&accepted.operation_id, &order.id);
        if self.underway.len() == ORDERS_MAX {
            self.underway.pop_front();
        }
        self.underway.push_back(order.id);
    }

    fn tick(&mut self, tick: usize) {
        let turn = tick % TURNS;
        if turn < SEEDED.len() {
            if let Some(order) = self.shop.advance_seeded(turn) {
                self.produce_order(&order);
            }
        } else {
            self.produce_notification(USERS[turn - SEEDED.len()], tick / TURNS);
        }
        if tick.is_multiple_of(TICKS_PER_STEP) {
            self.advance_placed();
        }
    }

    fn advance_placed(&mut self) {
        let Some(order) = self.underway.pop_front().and_then(|id| self.shop.advance(&id)) else { return };
        self.produce_order(&order);
        if order.status != Status::Delivered {
            self.underway.push_back(order.id);
        }
    }

    fn produce_order(&mut self, order: &Order) {
        let record = OrderRecord {
            ts: unix_ms(),
            kind: order.status.event_type(),
            order_id: &order.id,
            data: OrderData { order_id: &order.id, status: order.status, total: order.total },
        };
        self.produce(ORDERS_TOPIC, &order.id, &record);
        self.produce(ORDER_STATES_TOPIC, &order.id, order);
    }

    fn produce_deletion(&mut self, id: &str) {
        let data = DeletionData { order_id: id };
        let record = OrderRecord { ts: unix_ms(), kind: "order-deleted", order_id: id, data };
        self.produce(ORDERS_TOPIC, id, &record);
        let outcome = self.broker.produce(ORDER_STATES_TOPIC, id, None).map_err(|error| error.to_string());
        self.report(ORDER_STATES_TOPIC, outcome);
    }

    fn produce_notification(&mut self, user: &str, round: usize) {
        const NEWS: [(&str, &str); 4] = [
            ("Build complete", "info"),
            ("Deployment started", "info"),
            ("Disk is filling up", "warning"),
            ("Deployment finished", "info"),
        ];
        let (title, severity) = NEWS[round % NEWS.len()];
        let data = NotificationData { title, severity };
        let record = NotificationRecord { ts: unix_ms(), kind: "notification", user_id: user, data };
        self.produce(NOTIFICATIONS_TOPIC, user, &record);
    }

    fn produce(&mut self, topic: &str, key: &str, record: &impl Serialize) {
        let outcome = serde_json::to_vec(record)
            .map_err(|error| error.to_string())
            .and_then(|payload| self.broker.produce(topic, key, Some(&payload)).map_err(|error| error.to_string()));
        self.report(topic, outcome);
    }

    fn report(&mut self, topic: &str, outcome: Result<(), String>) {
        if let Err(error) = &outcome
            && !self.failing
        {
            tracing::warn!(topic, error, "the demo's broker accepts no records");
        }
        self.failing = outcome.is_err();
    }
}

/// A record of the topic `orders`; the key is the order id.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct OrderRecord<'a, D> {
    ts: u64,
    #[serde(rename = "type")]
    kind: &'static str,
    order_id: &'a str,
    data: D,
}

#[derive(Serialize)]
struct BurstData<'a> {
    /// The remaining events of the burst.
    left: usize,
    padding: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct OrderData<'a> {
    order_id: &'a str,
    status: Status,
    total: f64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct DeletionData<'a> {
    order_id: &'a str,
}

/// A record of the topic `notifications`; the key is the user.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct NotificationRecord<'a> {
    ts: u64,
    #[serde(rename = "type")]
    kind: &'static str,
    user_id: &'a str,
    data: NotificationData<'a>,
}

#[derive(Serialize)]
struct NotificationData<'a> {
    title: &'a str,
    severity: &'a str,
}

/// Milliseconds since the Unix epoch.
fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_seeded_order_and_user_gets_two_events_a_second() {
        let per_second = 1_000 / TICK.as_millis() as usize;
        assert!(per_second / TURNS >= 2);
    }

    #[test]
    fn records_are_envelopes_with_their_key() {
        let data = OrderData { order_id: "order-123", status: Status::Created, total: 99.99 };
        let record = OrderRecord { ts: 7, kind: Status::Created.event_type(), order_id: "order-123", data };
        assert_eq!(
            serde_json::to_string(&record).unwrap(),
            r#"{"ts":7,"type":"order-created","orderId":"order-123","data":{"orderId":"order-123","status":"CREATED","total":99.99}}"#
        );
        let data = NotificationData { title: "Build complete", severity: "info" };
        let record = NotificationRecord { ts: 7, kind: "notification", user_id: "u123", data };
        assert_eq!(
            serde_json::to_string(&record).unwrap(),
            r#"{"ts":7,"type":"notification","userId":"u123","data":{"title":"Build complete","severity":"info"}}"#
        );
    }
}
