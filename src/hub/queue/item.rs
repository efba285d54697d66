//! One item of a queue, and the parts of it that a write consists of.

use std::num::NonZeroU8;
use std::sync::Arc;

use bytes::Bytes;

use crate::codec::TransferCoding;
use crate::event::{Encoding, Event, Gap};

use super::coalesce::Mark;

/// The overhead of one item of control data in bytes: it is significant for thousands of two-byte pongs.
const CONTROL_ITEM_BYTES: u32 = 128;

/// One queued item.
#[derive(Debug)]
pub(super) enum Item {
    /// An event, its encoding, its mark, and whether it is live.
    Event(Arc<Event>, Arc<Encoding>, Mark, bool),
    /// A gap. It is encoded when it is about to be written, so that later losses can still be merged into it.
    Gap(Box<Gap>),
    /// Data of this session alone.
    Control(Box<Bytes>),
    /// The same, without the transfer coding: the head of the response, and the end of its body.
    Raw(Box<Bytes>),
}

impl Item {
    pub(super) fn bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Event(_, encoding, ..) => Some(&encoding.bytes),
            Self::Control(bytes) | Self::Raw(bytes) => Some(bytes),
            Self::Gap(_) => None,
        }
    }

    /// The transfer coding of this item on a connection.
    pub(super) fn coding(&self, connection: TransferCoding) -> TransferCoding {
        match self {
            Self::Event(..) | Self::Control(_) | Self::Gap(_) => connection,
            Self::Raw(_) => TransferCoding::None,
        }
    }
}

/// A part without its separator, if it is the first record: it begins with the separator, which is absent afterwards.
/// Nothing but records begins with a separator.
pub(super) fn without<'p>(separator: &mut Option<NonZeroU8>, part: &'p [u8]) -> &'p [u8] {
    match part {
        [first, record @ ..] if separator.is_some_and(|separator| separator.get() == *first) => {
            *separator = None;
            record
        }
        part => part,
    }
}

/// The rest of a part after `written` bytes, which are reduced by the part.
pub(super) fn rest<'p>(part: &'p [u8], written: &mut usize) -> &'p [u8] {
    let skipped = part.len().min(*written);
    *written -= skipped;
    &part[skipped..]
}

pub(super) fn control_cost(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX).saturating_add(CONTROL_ITEM_BYTES)
}
