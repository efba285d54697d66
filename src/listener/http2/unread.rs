//! The data of one response over HTTP/2 that its client has not made room for. While there is some, the request has a place
//! among the responses whose clients do not read.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Notify;
use tokio::time::sleep;

use super::super::waiting::Place;

/// How long data may wait before its client counts as one that does not read: for at most twice this time. Data that is
/// read waits as well until the connection has sent it.
const TICK: Duration = Duration::from_millis(100);

/// An extension of the head of a request.
#[derive(Clone)]
pub struct Unread(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    /// Notified when the first part begins to wait.
    begun: Notify,
}

struct State {
    place: Place,
    /// The parts that wait.
    parts: usize,
    /// Whether one began or ceased to wait since the last tick.
    has_moved: bool,
}

/// A part of a response, until HTTP/2 has sent or discarded it.
struct Part {
    bytes: Bytes,
    unread: Unread,
}

impl Unread {
    pub(super) fn new(place: Place) -> Self {
        let state = Mutex::new(State { place, parts: 0, has_moved: false });
        Self(Arc::new(Shared { state, begun: Notify::new() }))
    }

    /// The same bytes, which count as unread as long as they exist.
    pub fn track(&self, bytes: Bytes) -> Bytes {
        let mut state = self.state();
        state.parts += 1;
        state.has_moved = true;
        if state.parts == 1 {
            self.0.begun.notify_one();
        }
        drop(state);
        Bytes::from_owner(Part { bytes, unread: self.clone() })
    }

    /// Notes when the client does not read. Without data that waits, it sleeps.
    pub(super) async fn watch(&self) -> Infallible {
        loop {
            if self.state().parts == 0 {
                self.0.begun.notified().await;
                continue;
            }
            sleep(TICK).await;
            let mut state = self.state();
            if state.parts > 0 && !std::mem::take(&mut state.has_moved) {
                state.place.wait();
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AsRef<[u8]> for Part {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        let mut state = self.unread.state();
        state.parts -= 1;
        state.has_moved = true;
        state.place.progress();
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::waiting::Waiting;
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn data_that_waits_is_unread() {
        let waiting = Arc::new(Waiting::new(8));
        let unread = Unread::new(waiting.place(Arc::default()));
        let (first, second) = (unread.track(Bytes::from_static(b"a")), unread.track(Bytes::from_static(b"b")));
        assert_eq!((&first[..], &second[..]), (&b"a"[..], &b"b"[..]));
        let is_unread = async || {
            let _ = tokio::time::timeout(TICK * 3, unread.watch()).await;
            waiting.evict()
        };
        assert!(is_unread().await);
        drop(first);
        assert!(is_unread().await, "the other part waits");
        drop(second);
        assert!(!is_unread().await);
        let later = async {
            tokio::task::yield_now().await;
            unread.track(Bytes::from_static(b"c"))
        };
        let (_, _third) = tokio::join!(tokio::time::timeout(TICK * 3, unread.watch()), later);
        assert!(waiting.evict(), "data that came while none waited");
    }
}
