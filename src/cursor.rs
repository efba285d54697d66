//! A position in a stream, as clients hold it: `topic:partition:offset`, or the same followed by `~` and an opaque
//! part with the position in every partition of the stream. (contract; parse is final, the rest is being written)

use crate::event::EventId;

/// What a client says it has seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    pub id: EventId,
    /// The opaque part, still encoded.
    pub opaque: Option<Box<str>>,
}
