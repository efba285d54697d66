//! A position within a snapshot: `topic:partition:offset~.POSITIONS` before its first event, with `.KEY` after the event
//! of a key. The positions are those of the cut.
//!
//! It is no [`Cursor`](super::Cursor), so that it cannot be taken for a position in the stream: a client that resumed
//! there would lack the rest of the snapshot. Versions that do not know it reject it.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::{CURSOR_BYTES_MAX, Cursor, Positions, TopicPosition};
use crate::event::{BadEventId, EventId, Topic};

/// A client's position within a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotCursor {
    pub id: EventId,
    /// The positions of the cut, still encoded.
    cut: Box<str>,
    /// The key of the last received event.
    pub key: Option<Box<str>>,
}

/// The positions of a cut, encoded once for all of its cursors.
#[derive(Clone, Debug)]
pub struct EncodedCut(Box<str>);

impl EncodedCut {
    /// Of a stream of one topic. `None` if it does not fit into a cursor.
    pub fn new(position: &TopicPosition, topic: &Topic) -> Option<Self> {
        let (positions, topics) = (Positions(vec![position.clone()]), std::slice::from_ref(topic));
        positions.fit(topics).then(|| Self(positions.encode(topics)))
    }

    /// The position after the whole cut, with this id.
    pub fn end(&self, id: EventId) -> Cursor {
        Cursor { id, opaque: Some(self.0.clone()) }
    }

    /// The position after the event of this key.
    pub fn cursor(&self, id: &EventId, key: Option<&str>) -> String {
        let key = key.map(|key| format!(".{}", URL_SAFE_NO_PAD.encode(key))).unwrap_or_default();
        format!("{id}~.{}{key}", self.0)
    }
}

impl SnapshotCursor {
    /// Whether a text has this form.
    pub fn is_like(text: &str) -> bool {
        text.contains("~.")
    }

    /// The position of the cut. `None` if it belongs to another stream.
    pub fn cut(&self, topic: &Topic) -> Option<TopicPosition> {
        Positions::decode(&self.cut, std::slice::from_ref(topic))?.0.pop()
    }
}

impl FromStr for SnapshotCursor {
    type Err = BadEventId;

    fn from_str(text: &str) -> Result<Self, BadEventId> {
        let (id, rest) = text.split_once("~.").filter(|_| text.len() <= CURSOR_BYTES_MAX).ok_or(BadEventId)?;
        let (cut, key) = rest.split_once('.').map_or((rest, None), |(cut, key)| (cut, Some(key)));
        let decode = |key: &str| String::from_utf8(URL_SAFE_NO_PAD.decode(key).ok()?).ok();
        let key = key.map(|key| decode(key).ok_or(BadEventId)).transpose()?;
        let is_readable = cut.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
        if !is_readable {
            return Err(BadEventId);
        }
        Ok(Self { id: id.parse()?, cut: cut.into(), key: key.map(Into::into) })
    }
}

impl fmt::Display for SnapshotCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&EncodedCut(self.cut.clone()).cursor(&self.id, self.key.as_deref()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cursor::Cursor;

    #[test]
    fn a_position_within_a_snapshot_is_read_back_and_is_no_cursor() {
        let topic: Topic = "orders".into();
        let position = TopicPosition { epoch: 7, next: vec![3, 1_000_000] };
        let cut = EncodedCut::new(&position, &topic).unwrap();
        let id: EventId = "orders:1:999".parse().unwrap();
        for key in [None, Some("o-1"), Some(""), Some("ö.~/")] {
            let text = cut.cursor(&id, key);
            let read: SnapshotCursor = text.parse().unwrap();
            assert_eq!((&read.id, read.key.as_deref(), read.cut(&topic)), (&id, key, Some(position.clone())), "{text}");
            assert_eq!(read.to_string(), text);
            assert!(SnapshotCursor::is_like(&text) && text.parse::<Cursor>().is_err(), "{text}");
            assert_eq!(read.cut(&"other".into()), None);
        }
        for wrong in ["orders:0:1", "orders:0:1~", "orders:0:1~AQ", "orders:0:1~.A Q", "orders:0:1~.AQ.=", "x~.AQ"] {
            assert_eq!(wrong.parse::<SnapshotCursor>(), Err(BadEventId), "{wrong}");
        }
    }
}
