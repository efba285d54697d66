//! Reports open streams for the admin page: the slowest ones, and those that are bound to a key's value.
//!
//! Each survey scans all streams of a writer once, between two turns; nothing is kept for it.

use std::sync::Arc;

use serde::Serialize;

use crate::session::Session;

/// The most reported streams, of all writers together.
pub(super) const STATS_MAX: usize = 50;

/// The selection.
#[derive(Clone, Debug)]
pub enum Survey {
    /// Streams with queued events, the most bytes first.
    MostWaiting,
    /// Streams that are bound to this value of any key.
    BoundTo(String),
}

/// A reported stream.
#[derive(Debug, Serialize)]
pub struct StreamStats {
    /// The route's pattern.
    pub route: Arc<str>,
    pub transport: &'static str,
    /// The bound keys, `orderId=o1`, of each subscription.
    pub keys: Vec<String>,
    /// Queued events.
    pub events: usize,
    pub bytes: usize,
    /// Whether it is in catch-up.
    pub is_behind: bool,
}

impl Survey {
    /// The report of one writer.
    pub(super) fn of<'a>(&self, sessions: impl Iterator<Item = &'a Session>) -> Vec<StreamStats> {
        let sessions = sessions.filter(|session| session.closed().is_none());
        match self {
            Self::BoundTo(value) => {
                let is_bound = |session: &&Session| session.selectors().any(|selector| selector.has_value(value));
                sessions.filter(is_bound).take(STATS_MAX).map(stats).collect()
            }
            Self::MostWaiting => {
                let mut waiting: Vec<_> = sessions.filter(|session| session.backlog().0 > 0).collect();
                waiting.sort_by_key(|session| std::cmp::Reverse(session.backlog().1));
                waiting.into_iter().take(STATS_MAX).map(stats).collect()
            }
        }
    }

    /// Merges the reports of all writers.
    pub(super) fn merge(mut stats: Vec<StreamStats>) -> Vec<StreamStats> {
        stats.sort_by_key(|stats| std::cmp::Reverse(stats.bytes));
        stats.truncate(STATS_MAX);
        stats
    }
}

fn stats(session: &Session) -> StreamStats {
    let (events, bytes) = session.backlog();
    let keys = session
        .selectors()
        .flat_map(|selector| &*selector.0)
        .map(|criterion| format!("{}={}", criterion.key, criterion.wanted));
    StreamStats {
        route: session.request().route.pattern.clone(),
        transport: session.transport().as_str(),
        keys: keys.collect(),
        events,
        bytes,
        is_behind: session.is_behind(),
    }
}
