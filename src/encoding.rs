//! What was made of one event for the wire, and the list of it that the event carries.
//!
//! An encoding is made once and shared by everybody it fits. How long it is kept for those who may still come is the
//! business of [`crate::codec::Encodings`]; what is queued stays as long as it is queued.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

/// What an encoding costs beside its bytes and its cursor, in bytes: the structure, its allocations, and its places in
/// the event's list and in the order of those kept.
pub const ENCODING_OVERHEAD_BYTES: usize = 256;

/// Names one encoding of an event: which stream's cursor it carries and which form it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FrameKey(u32);

impl FrameKey {
    /// What `form` means is the codec's.
    pub const fn new(stream_id: u16, form: u8) -> Self {
        Self((stream_id as u32) << 8 | form as u32)
    }

    pub fn stream_id(self) -> u16 {
        (self.0 >> 8) as u16
    }

    pub fn form(self) -> u8 {
        self.0 as u8
    }
}

/// Bytes that are held at the moment.
#[derive(Debug, Default)]
pub struct Meter(AtomicUsize);

impl Meter {
    pub fn bytes(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// One event as a client gets it, immutable.
#[derive(Debug)]
pub struct Encoding {
    pub bytes: Bytes,
    /// Where the client stands after it.
    pub cursor: Bytes,
    meter: Arc<Meter>,
}

impl Encoding {
    /// Counted by `meter` as long as it exists.
    pub fn new(bytes: Bytes, cursor: Bytes, meter: &Arc<Meter>) -> Self {
        let encoding = Self { bytes, cursor, meter: meter.clone() };
        meter.0.fetch_add(encoding.weight(), Ordering::Relaxed);
        encoding
    }

    /// Bytes of memory.
    pub fn weight(&self) -> usize {
        self.bytes.len() + self.cursor.len() + ENCODING_OVERHEAD_BYTES
    }
}

impl Drop for Encoding {
    fn drop(&mut self) {
        self.meter.0.fetch_sub(self.weight(), Ordering::Relaxed);
    }
}

/// The encodings of one event that are kept for those who come, and the streams on which it was sent.
#[derive(Debug, Default)]
pub struct Frames {
    made: Mutex<Option<Box<Made>>>,
}

#[derive(Debug, Default)]
struct Made {
    /// A handful.
    kept: Vec<(FrameKey, Arc<Encoding>)>,
    /// Ids of streams. They stay when the encodings go.
    sent_on: Vec<u16>,
}

impl Frames {
    /// The encoding under `key`, if it is kept.
    pub fn get(&self, key: FrameKey) -> Option<Arc<Encoding>> {
        self.made().as_ref()?.get(key).cloned()
    }

    /// The cursor that the encodings kept for a stream carry.
    pub fn cursor(&self, stream_id: u16) -> Option<Bytes> {
        let made = self.made();
        let of_stream = |(key, _): &&(FrameKey, Arc<Encoding>)| key.stream_id() == stream_id;
        made.as_ref()?.kept.iter().find(of_stream).map(|(_, encoding)| encoding.cursor.clone())
    }

    /// Keeps an encoding, unless another one is kept under `key`. Gives the one that is kept, and whether it is new.
    pub fn keep(&self, key: FrameKey, encoding: Arc<Encoding>) -> (Arc<Encoding>, bool) {
        let mut made = self.made();
        let made = made.get_or_insert_default();
        if let Some(known) = made.get(key) {
            return (known.clone(), false);
        }
        made.kept.push((key, encoding.clone()));
        (encoding, true)
    }

    /// Keeps the encoding under `key` no longer; gives it back, so that it is not freed under a lock.
    pub fn forget(&self, key: FrameKey) -> Option<Arc<Encoding>> {
        let mut made = self.made();
        let kept = &mut made.as_mut()?.kept;
        let at = kept.iter().position(|(known, _)| *known == key)?;
        let (_, encoding) = kept.swap_remove(at);
        kept.shrink_to_fit();
        Some(encoding)
    }

    /// Notes that somebody on a stream is sent the event.
    pub fn send_on(&self, stream_id: u16) {
        let mut made = self.made();
        let made = made.get_or_insert_default();
        if !made.sent_on.contains(&stream_id) {
            // One, mostly.
            made.sent_on.reserve_exact(1);
            made.sent_on.push(stream_id);
        }
    }

    /// Whether somebody on a stream was sent the event.
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
