//! The states of topics: a source feeds them, streams and the gateway read them, and requests can wait for a change.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::watch;

use crate::event::Feed;
use crate::hub::{Table, TableConfig};
use crate::route::Stream;

/// All states of the process.
#[derive(Clone, Debug, Default)]
pub struct States(Arc<[State]>);

/// The state of one topic and key.
#[derive(Debug)]
pub struct State {
    table: Table,
    changes: watch::Sender<()>,
}

impl States {
    pub fn new(configs: &[TableConfig]) -> Self {
        let state = |config: &TableConfig| State { table: Table::new(config.clone()), changes: watch::Sender::new(()) };
        Self(configs.iter().map(state).collect())
    }

    pub fn iter(&self) -> impl Iterator<Item = &State> {
        self.0.iter()
    }

    /// The state of a stream. `None` if it has none, or if it was added to the configuration after the start.
    pub fn of(&self, stream: &Stream) -> Option<&State> {
        let key = &stream.state.as_ref()?.key;
        self.iter().find(|state| {
            let config = state.table.config();
            *key == config.key && *stream.topics == [config.topic.clone()]
        })
    }
}

impl State {
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// Applies the output of its source.
    pub fn feed(&self, feed: &Feed, now: Instant) {
        self.table.feed(feed, now);
        self.changes.send_replace(());
    }

    /// Reports whatever its source passes on from now on.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }
}
