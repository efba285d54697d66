//! How a wire without a descriptor reports readiness to the loop of its writer.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Wake, Waker};

use mio::Waker as PollWaker;

/// The wires that are ready, each once: at most as many as a writer has.
pub(super) struct Signals {
    ready: Mutex<Vec<Arc<Signal>>>,
    waker: Arc<PollWaker>,
}

/// The signal of one wire.
struct Signal {
    key: usize,
    is_set: AtomicBool,
    signals: Arc<Signals>,
}

impl Signals {
    pub(super) fn new(waker: Arc<PollWaker>) -> Self {
        Self { ready: Mutex::default(), waker }
    }

    /// A waker that reports the wire with this key as ready.
    pub(super) fn waker(self: &Arc<Self>, key: usize) -> Waker {
        Arc::new(Signal { key, is_set: AtomicBool::new(false), signals: self.clone() }).into()
    }

    /// The keys of the wires that are ready. A wire may be gone, and its key reused: an extra check is harmless.
    pub(super) fn take(&self) -> impl Iterator<Item = usize> + use<> {
        let ready = std::mem::take(&mut *self.ready.lock().unwrap_or_else(PoisonError::into_inner));
        ready.into_iter().map(|signal| {
            signal.is_set.store(false, Ordering::Release);
            signal.key
        })
    }
}

impl Wake for Signal {
    fn wake(self: Arc<Self>) {
        if self.is_set.swap(true, Ordering::AcqRel) {
            return;
        }
        self.signals.ready.lock().unwrap_or_else(PoisonError::into_inner).push(self.clone());
        if let Err(error) = self.signals.waker.wake() {
            tracing::error!(%error, "a stream writer cannot be woken");
        }
    }
}
