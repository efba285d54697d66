//! The encodings of one event, which the event carries.
//!
//! An encoding is created once and shared by all sessions with the same form. [`crate::codec::Encodings`] decides how
//! long it is kept for later sessions; queued encodings live as long as they are queued.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

/// The overhead of an encoding in bytes, in addition to its bytes and cursor: the structure, its allocations, and its
/// entries in the event's list and in the eviction order.
pub const ENCODING_OVERHEAD_BYTES: usize = 256;

/// Identifies one encoding of an event: the stream whose cursor it contains, the form, and the fields that it shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FrameKey {
    fields: u32,
    stream_id: u16,
    form: u8,
}

impl FrameKey {
    /// The codec defines `form`. The encoding shows all fields.
    pub const fn new(stream_id: u16, form: u8) -> Self {
        Self { fields: 0, stream_id, form }
    }

    /// This key for encodings that show the fields with this id.
    #[must_use]
    pub const fn showing(self, fields: u32) -> Self {
        Self { fields, ..self }
    }

    pub fn stream_id(self) -> u16 {
        self.stream_id
    }

    pub fn form(self) -> u8 {
        self.form
    }

    /// The id of the shown fields; 0 for all.
    pub fn fields(self) -> u32 {
        self.fields
    }
}

/// The bytes that are currently held.
#[derive(Debug, Default)]
pub struct Meter(AtomicUsize);

impl Meter {
    pub fn bytes(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// The positions of a client in all partitions of a stream except one, as a list of numbers that is unique to them.
#[derive(Debug, PartialEq, Eq)]
pub struct OtherPositions(Box<[i64]>);

impl OtherPositions {
    pub fn new(numbers: Vec<i64>) -> Self {
        Self(numbers.into())
    }

    fn bytes(&self) -> usize {
        size_of_val(&*self.0)
    }
}

/// One event as sent to clients, immutable.
#[derive(Debug)]
pub struct Encoding {
    pub bytes: Bytes,
    /// The client's position after it.
    pub cursor: Bytes,
    /// The positions in the cursor except for the event's partition, which the event determines. `None` if only the
    /// cursor contains them.
    others: Option<Arc<OtherPositions>>,
    /// The weight of `others`: one of the encodings that share it counts it.
    others_bytes: usize,
    meter: Arc<Meter>,
}

impl Encoding {
    /// `meter` counts it while it exists.
    pub fn new(bytes: Bytes, cursor: Bytes, others: Option<Arc<OtherPositions>>, meter: &Arc<Meter>) -> Self {
        // The first encoding shares it only with its creator.
        let first = others.as_ref().filter(|others| Arc::strong_count(others) <= 2);
        let others_bytes = first.map_or(0, |others| others.bytes());
        let encoding = Self { bytes, cursor, others, others_bytes, meter: meter.clone() };
        meter.0.fetch_add(encoding.weight(), Ordering::Relaxed);
        encoding
    }

    /// Whether this is the encoding of a client with these positions. If so, the client shares its list of them from
    /// now on, so that the next comparison compares pointers.
    pub fn is_at(&self, others: &mut Arc<OtherPositions>) -> bool {
        let Some(own) = &self.others else { return false };
        if !Arc::ptr_eq(own, others) {
            if own != others {
                return false;
            }
            *others = own.clone();
        }
        true
    }

    /// Memory in bytes.
    pub fn weight(&self) -> usize {
        self.bytes.len() + self.cursor.len() + self.others_bytes + ENCODING_OVERHEAD_BYTES
    }
}

impl Drop for Encoding {
    fn drop(&mut self) {
        self.meter.0.fetch_sub(self.weight(), Ordering::Relaxed);
    }
}

/// The encodings of one event that are kept for later sessions, and the streams on which the event was sent.
#[derive(Debug, Default)]
pub struct Frames {
    made: Mutex<Option<Box<Made>>>,
}

#[derive(Debug, Default)]
struct Made {
    /// Usually very few.
    kept: Vec<(FrameKey, Arc<Encoding>)>,
    /// Ids of streams. They stay when the encodings are evicted.
    sent_on: Vec<u16>,
}

impl Frames {
    /// The kept encoding under `key`.
    pub fn get(&self, key: FrameKey) -> Option<Arc<Encoding>> {
        self.made().as_ref()?.get(key).cloned()
    }

    /// One of the encodings kept for a stream: all of them have the same cursor.
    pub fn of_stream(&self, stream_id: u16) -> Option<Arc<Encoding>> {
        let made = self.made();
        let of_stream = |(key, _): &&(FrameKey, Arc<Encoding>)| key.stream_id() == stream_id;
        made.as_ref()?.kept.iter().find(of_stream).map(|(_, encoding)| encoding.clone())
    }

    /// Keeps an encoding, unless one is kept under `key` already. Returns the kept one, and whether it is new.
    pub fn keep(&self, key: FrameKey, encoding: Arc<Encoding>) -> (Arc<Encoding>, bool) {
        let mut made = self.made();
        let made = made.get_or_insert_default();
        if let Some(known) = made.get(key) {
            return (known.clone(), false);
        }
        made.kept.push((key, encoding.clone()));
        (encoding, true)
    }

    /// Evicts the encoding under `key`, and returns it, so that it is not freed under a lock.
    pub fn forget(&self, key: FrameKey) -> Option<Arc<Encoding>> {
        let mut made = self.made();
        let kept = &mut made.as_mut()?.kept;
        let at = kept.iter().position(|(known, _)| *known == key)?;
        let (_, encoding) = kept.swap_remove(at);
        kept.shrink_to_fit();
        Some(encoding)
    }

    /// Records that the event was sent on a stream.
    pub fn send_on(&self, stream_id: u16) {
        let mut made = self.made();
        let made = made.get_or_insert_default();
        if !made.sent_on.contains(&stream_id) {
            // Usually one.
            made.sent_on.reserve_exact(1);
            made.sent_on.push(stream_id);
        }
    }

    /// Whether the event was sent on a stream.
    pub fn is_sent_on(&self, stream_id: u16) -> bool {
        self.made().as_ref().is_some_and(|made| made.sent_on.contains(&stream_id))
    }

    fn made(&self) -> MutexGuard<'_, Option<Box<Made>>> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Made {
    fn get(&self, key: FrameKey) -> Option<&Arc<Encoding>> {
        self.kept.iter().find(|(known, _)| *known == key).map(|(_, encoding)| encoding)
    }
}
