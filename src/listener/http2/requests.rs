//! The requests in progress on one connection of HTTP/2, streams included. Without any, the connection waits for its client.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::sleep;

use super::super::waiting::Place;

/// The requests in progress on one connection.
pub(super) struct Requests {
    state: Mutex<State>,
    /// Notifies its waiters when the last one ends.
    ended: Notify,
}

/// Invariant: `place` waits if and only if `open` is 0.
struct State {
    open: usize,
    /// Whether one has ended.
    has_answered: bool,
    place: Place,
}

/// A request in progress, until this is dropped.
pub(super) struct Open(Arc<Requests>);

impl Requests {
    /// None so far. `place` is the connection's place among those that wait for their clients.
    pub(super) fn new(mut place: Place) -> Arc<Self> {
        place.wait();
        Arc::new(Self { state: Mutex::new(State { open: 0, has_answered: false, place }), ended: Notify::new() })
    }

    /// Begins a request, unless `max` are in progress.
    pub(super) fn begin(self: &Arc<Self>, max: usize) -> Option<Open> {
        let mut state = self.state();
        if state.open >= max {
            return None;
        }
        state.open += 1;
        state.place.progress();
        Some(Open(self.clone()))
    }

    /// Waits until no request has been in progress for this long. None begins meanwhile.
    pub(super) async fn idle(&self, time: Duration) {
        self.await_state(|state| state.open == 0).await;
        sleep(time).await;
    }

    /// Waits until requests have ended and none is in progress.
    pub(super) async fn answered(&self) {
        self.await_state(|state| state.open == 0 && state.has_answered).await;
    }

    async fn await_state(&self, is_reached: impl Fn(&State) -> bool) {
        loop {
            let ended = self.ended.notified();
            if is_reached(&self.state()) {
                return;
            }
            ended.await;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.open -= 1;
        state.has_answered = true;
        if state.open == 0 {
            state.place.wait();
            self.0.ended.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::waiting::Waiting;
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_connection_without_requests_waits() {
        let waiting = Arc::new(Waiting::new(8));
        let requests = Requests::new(waiting.place(Arc::default()));
        assert!(waiting.evict(), "no request has begun");
        let requests_of_another = Requests::new(waiting.place(Arc::default()));
        let (first, second) = (requests_of_another.begin(2).unwrap(), requests_of_another.begin(2).unwrap());
        assert!(requests_of_another.begin(2).is_none() && !waiting.evict());
        drop(first);
        assert!(!waiting.evict());
        let idle = requests_of_another.idle(Duration::from_secs(1));
        drop(second);
        idle.await;
        requests_of_another.answered().await;
        assert!(waiting.evict());
        requests.idle(Duration::from_secs(1)).await;
    }
}
