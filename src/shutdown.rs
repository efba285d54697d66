//! The signals of the process, and the flags that a drain or the end of the process has begun.
//!
//! `app` defines the steps and their order.

use std::sync::Arc;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

/// A flag that stays set.
#[derive(Clone, Debug, Default)]
pub struct Mark(Arc<watch::Sender<bool>>);

impl Mark {
    pub fn set(&self) {
        self.0.send_replace(true);
    }

    pub fn is_set(&self) -> bool {
        *self.0.borrow()
    }

    /// Waits until it is set.
    pub async fn wait(&self) {
        // The sender is open as long as `self` exists.
        let _ = self.0.subscribe().wait_for(|is_set| *is_set).await;
    }
}

/// Set while the streams are drained: no new streams. Requests are still proxied.
pub type Draining = Mark;
/// Set when the process is ending: no new connections.
pub type Ending = Mark;

/// The signals that this process handles while this exists. Must be created within a tokio runtime.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    /// Registers the handlers.
    ///
    /// # Errors
    ///
    /// A handler cannot be registered.
    pub fn install() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for SIGTERM or SIGINT, and returns its name. SIGHUP, which ends a process by default, calls `on_hangup`.
    pub async fn termination(&mut self, on_hangup: impl Fn()) -> &'static str {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return "SIGTERM",
                _ = self.interrupt.recv() => return "SIGINT",
                _ = self.hangup.recv() => on_hangup(),
            }
        }
    }
}
