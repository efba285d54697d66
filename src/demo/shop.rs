//! The demo shop: some orders that change status continuously, the orders that visitors place, and the operations that
//! place them.
//!
//! It holds state within limits, without HTTP, Kafka or a clock.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Serialize;

/// The initial orders, which change status for ever and are never evicted.
pub(super) const SEEDED: [&str; 3] = ["order-123", "order-456", "order-789"];
/// Orders kept, seeded ones included. One more evicts the oldest placed order.
pub(super) const ORDERS_MAX: usize = 1_000;
/// Operations kept. One more evicts the oldest.
pub(super) const OPERATIONS_MAX: usize = 1_000;

/// The prices of the seeded orders, in cents.
const SEEDED_TOTALS: [u32; SEEDED.len()] = [9_999, 4_250, 129_900];
/// The number of the first placed order, distinct from the seeded ones.
const FIRST_PLACED_NUMBER: u64 = 1_000;

/// The status of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub(super) enum Status {
    Created,
    Processing,
    Shipped,
    Delivered,
}

impl Status {
    /// The `type` of the event that reports this status.
    pub(super) fn event_type(self) -> &'static str {
        match self {
            Self::Created => "order-created",
            Self::Processing => "order-updated",
            Self::Shipped => "order-shipped",
            Self::Delivered => "order-delivered",
        }
    }

    fn next(self) -> Option<Self> {
        match self {
            Self::Created => Some(Self::Processing),
            Self::Processing => Some(Self::Shipped),
            Self::Shipped => Some(Self::Delivered),
            Self::Delivered => None,
        }
    }
}

/// An order, as `GET /orders/{orderId}` returns it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Order {
    pub(super) id: String,
    pub(super) status: Status,
    pub(super) total: f64,
}

/// The state of a `POST /orders`, as `GET /operations/{id}` returns it.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Operation {
    pub(super) operation_id: String,
    pub(super) status: OperationStatus,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) result: Option<OperationResult>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub(super) enum OperationStatus {
    Processing,
    Completed,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct OperationResult {
    pub(super) order_id: String,
}

/// An accepted order that does not exist yet.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Accepted {
    pub(super) operation_id: String,
    /// In cents.
    pub(super) total: u32,
}

/// The shop, shared by the REST service and the producer.
#[derive(Debug)]
pub(super) struct Shop {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Oldest first; the seeded orders are at the front.
    orders: VecDeque<Order>,
    /// Oldest first.
    operations: VecDeque<Operation>,
    next_order: u64,
    next_operation: u64,
}

impl Shop {
    /// Creates a shop with the seeded orders.
    pub(super) fn open() -> Self {
        let orders = SEEDED.iter().zip(SEEDED_TOTALS).map(|(id, total)| new_order((*id).to_owned(), total)).collect();
        let state = State { orders, operations: VecDeque::new(), next_order: FIRST_PLACED_NUMBER, next_operation: 1 };
        Self { state: Mutex::new(state) }
    }

    /// Page number `page` of `size` orders, oldest first, and the number of all orders.
    pub(super) fn page(&self, page: usize, size: usize) -> (Vec<Order>, usize) {
        let state = self.state();
        let orders = state.orders.iter().skip(page.saturating_mul(size)).take(size).cloned().collect();
        (orders, state.orders.len())
    }

    pub(super) fn order(&self, id: &str) -> Option<Order> {
        self.state().orders.iter().find(|order| order.id == id).cloned()
    }

    pub(super) fn operation(&self, id: &str) -> Option<Operation> {
        self.state().operations.iter().find(|operation| operation.operation_id == id).cloned()
    }

    /// Accepts an order of `total` cents.
    pub(super) fn accept(&self, total: u32) -> Accepted {
        let mut state = self.state();
        let operation_id = format!("op-{}", state.next_operation);
        state.next_operation += 1;
        if state.operations.len() == OPERATIONS_MAX {
            state.operations.pop_front();
        }
        state.operations.push_back(Operation {
            operation_id: operation_id.clone(),
            status: OperationStatus::Processing,
            result: None,
        });
        Accepted { operation_id, total }
    }

    /// Withdraws an accepted order that the producer has no capacity for.
    pub(super) fn withdraw(&self, operation_id: &str) {
        self.state().operations.retain(|operation| operation.operation_id != operation_id);
    }

    /// Creates an accepted order. Returns the id of the order that it evicts, too.
    pub(super) fn create(&self, accepted: &Accepted) -> (Order, Option<String>) {
        let mut state = self.state();
        let order = new_order(format!("order-{}", state.next_order), accepted.total);
        state.next_order += 1;
        let evicted = if state.orders.len() == ORDERS_MAX { state.orders.remove(SEEDED.len()) } else { None };
        state.orders.push_back(order.clone());
        (order, evicted.map(|order| order.id))
    }

    /// Changes the price of an order, in cents; `None` if there is no such order.
    pub(super) fn update(&self, id: &str, total: u32) -> Option<Order> {
        let mut state = self.state();
        let order = state.orders.iter_mut().find(|order| order.id == id)?;
        order.total = f64::from(total) / 100.0;
        Some(order.clone())
    }

    /// Deletes an order. False if there is no such order.
    pub(super) fn delete(&self, id: &str) -> bool {
        let mut state = self.state();
        let at = state.orders.iter().position(|order| order.id == id);
        at.and_then(|at| state.orders.remove(at)).is_some()
    }

    /// Completes an operation with its order.
    pub(super) fn complete(&self, operation_id: &str, order_id: &str) {
        let mut state = self.state();
        if let Some(operation) = state.operations.iter_mut().find(|o| o.operation_id == operation_id) {
            operation.status = OperationStatus::Completed;
            operation.result = Some(OperationResult { order_id: order_id.to_owned() });
        }
    }

    /// Advances an order to its next status; `None` if it is delivered or evicted.
    pub(super) fn advance(&self, id: &str) -> Option<Order> {
        let mut state = self.state();
        let order = state.orders.iter_mut().find(|order| order.id == id)?;
        order.status = order.status.next()?;
        Some(order.clone())
    }

    /// Advances a seeded order; a delivered one starts over.
    pub(super) fn advance_seeded(&self, index: usize) -> Option<Order> {
        let mut state = self.state();
        let order = state.orders.get_mut(index % SEEDED.len())?;
        order.status = order.status.next().unwrap_or(Status::Created);
        Some(order.clone())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn new_order(id: String, cents: u32) -> Order {
    Order { id, status: Status::Created, total: f64::from(cents) / 100.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_placed_order_passes_every_status_once() {
        let shop = Shop::open();
        let accepted = shop.accept(1_250);
        assert_eq!(shop.operation("op-1").unwrap().status, OperationStatus::Processing);
        let (order, _) = shop.create(&accepted);
        shop.complete(&accepted.operation_id, &order.id);
        assert_eq!(shop.operation("op-1").unwrap().result, Some(OperationResult { order_id: "order-1000".into() }));
        let steps: Vec<_> = std::iter::from_fn(|| shop.advance(&order.id)).map(|o| o.status).collect();
        assert_eq!(steps, [Status::Processing, Status::Shipped, Status::Delivered]);
    }

    #[test]
    fn seeded_orders_start_over() {
        let shop = Shop::open();
        let steps: Vec<_> = (0..4).filter_map(|_| shop.advance_seeded(0)).map(|o| o.status.event_type()).collect();
        assert_eq!(steps, ["order-updated", "order-shipped", "order-delivered", "order-created"]);
    }

    #[test]
    fn the_oldest_placed_order_and_operation_are_forgotten_and_seeded_orders_never() {
        let shop = Shop::open();
        for _ in 0..=ORDERS_MAX.max(OPERATIONS_MAX) {
            let accepted = shop.accept(1);
            shop.create(&accepted);
        }
        assert_eq!(shop.page(0, usize::MAX).1, ORDERS_MAX);
        assert!(shop.order("order-1000").is_none() && shop.operation("op-1").is_none());
        assert!(SEEDED.iter().all(|id| shop.order(id).is_some()));
    }

    #[test]
    fn an_order_is_changed_and_deleted() {
        let shop = Shop::open();
        let (order, evicted) = shop.create(&shop.accept(1));
        assert_eq!(evicted, None);
        assert_eq!(shop.update(&order.id, 250).map(|order| order.total), Some(2.5));
        assert_eq!((shop.delete(&order.id), shop.delete(&order.id)), (true, false));
        assert_eq!(shop.update(&order.id, 1), None);
    }

    #[test]
    fn a_page_beyond_the_end_is_empty() {
        let shop = Shop::open();
        assert_eq!(shop.page(1, 2).0.len(), 1);
        assert_eq!(shop.page(usize::MAX, usize::MAX).0, []);
    }

    #[test]
    fn a_withdrawn_operation_is_unknown() {
        let shop = Shop::open();
        let accepted = shop.accept(1);
        shop.withdraw(&accepted.operation_id);
        assert_eq!(shop.operation("op-1"), None);
    }
}
