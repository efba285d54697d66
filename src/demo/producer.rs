//! Keeps the demo's topics moving: one thread that produces for ever, and makes the orders that were placed.
//!
//! It decides what happens in the shop and when; delivery to the broker is the embedded broker's business.

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
pub(super) const NOTIFICATIONS_TOPIC: &str = "notifications";
/// The users who get notifications, and tokens.
pub(super) const USERS: [&str; 2] = ["u123", "u456"];

/// One seeded order or one user gets an event each tick, in turn: with five of them, each gets 2.5 events a second.
const TICK: Duration = Duration::from_millis(80);
const TURNS: usize = SEEDED.len() + USERS.len();
/// One placed order moves on every so many ticks.
const TICKS_PER_STEP: usize = 10;

/// Starts the producing thread. It ends when the sending side of `accepted` is gone.
pub(super) fn start(broker: Embedded, shop: Arc<Shop>, accepted: Receiver<Accepted>) -> io::Result<JoinHandle<()>> {
    let producer = Producer { broker, shop, underway: VecDeque::new(), failing: false };
    thread::Builder::new().name("demo-producer".into()).spawn(move || producer.run(&accepted))
}

struct Producer {
    broker: Embedded,
    shop: Arc<Shop>,
    /// Placed orders that are not delivered yet, at most [`ORDERS_MAX`].
    underway: VecDeque<String>,
    /// Whether the last record was refused, so that a failure is logged once.
    failing: bool,
}

impl Producer {
    fn run(mut self, accepted: &Receiver<Accepted>) {
        let mut due = Instant::now();
        for tick in 0.. {
            if !self.make_accepted_until(due, accepted) {
                return;
            }
            self.tick(tick);
            // After a stall the lost ticks stay lost: no burst follows.
            due = (due + TICK).max(Instant::now());
        }
    }

    /// Makes what is ordered until `due`; false when no more orders can come.
    fn make_accepted_until(&mut self, due: Instant, accepted: &Receiver<Accepted>) -> bool {
        loop {
            let left = due.saturating_duration_since(Instant::now());
            match accepted.recv_timeout(left) {
                Ok(order) => self.make(&order),
                Err(RecvTimeoutError::Timeout) => return true,
                Err(RecvTimeoutError::Disconnected) => return false,
            }
            if Instant::now() >= due {
                return true;
            }
        }
    }

    fn make(&mut self, accepted: &Accepted) {
        let order = self.shop.create(accepted);
        self.tell_order(&order);
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
                self.tell_order(&order);
            }
        } else {
            self.tell_notification(USERS[turn - SEEDED.len()], tick / TURNS);
        }
        if tick.is_multiple_of(TICKS_PER_STEP) {
            self.advance_placed();
        }
    }

    fn advance_placed(&mut self) {
        let Some(order) = self.underway.pop_front().and_then(|id| self.shop.advance(&id)) else { return };
        self.tell_order(&order);
        if order.status != Status::Delivered {
            self.underway.push_back(order.id);
        }
    }

    fn tell_order(&mut self, order: &Order) {
        let record = OrderRecord {
            ts: unix_ms(),
            kind: order.status.event_type(),
            order_id: &order.id,
            data: OrderData { order_id: &order.id, status: order.status, total: order.total },
        };
        self.produce(ORDERS_TOPIC, &order.id, &record);
    }

    fn tell_notification(&mut self, user: &str, round: usize) {
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
            .and_then(|payload| self.broker.produce(topic, key, &payload).map_err(|error| error.to_string()));
        if let Err(error) = &outcome
            && !self.failing
        {
            tracing::warn!(topic, error, "the demo's broker takes no records");
        }
        self.failing = outcome.is_err();
    }
}

/// A record of the topic `orders`, keyed by the order.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct OrderRecord<'a> {
    ts: u64,
    #[serde(rename = "type")]
    kind: &'static str,
    order_id: &'a str,
    data: OrderData<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct OrderData<'a> {
    order_id: &'a str,
    status: Status,
    total: f64,
}

/// A record of the topic `notifications`, keyed by the user.
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
