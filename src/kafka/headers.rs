//! Reads the headers of a record. Headers whose name is not UTF-8 are skipped: no configuration can name them.
//!
//! rdkafka's own reader panics on such a name (its `BorrowedHeaders::try_get` unwraps), so that any producer could stop
//! the consumer with one record. This module calls librdkafka directly.

use std::ffi::CStr;
use std::marker::PhantomData;
use std::ptr;

use rdkafka::bindings::{
    rd_kafka_header_get_all, rd_kafka_headers_t, rd_kafka_message_headers, rd_kafka_message_t, rd_kafka_resp_err_t,
};
use rdkafka::message::BorrowedMessage;

use crate::decode::Header;

/// The headers of a record in order, borrowed from the message.
pub(super) fn headers<'m>(message: &'m BorrowedMessage<'_>) -> Vec<Header<'m>> {
    let Some(list) = List::of(message) else { return Vec::new() };
    (0..).map_while(|index| list.get(index)).filter_map(|(name, value)| Some((name.to_str().ok()?, value))).collect()
}

/// The headers of a message, which live as long as the message.
struct List<'m> {
    headers: *mut rd_kafka_headers_t,
    message: PhantomData<&'m ()>,
}

#[allow(unsafe_code)]
impl<'m> List<'m> {
    /// `None` if the message has no headers.
    fn of(message: &'m BorrowedMessage<'_>) -> Option<Self> {
        let mut headers = ptr::null_mut();
        let message: *mut rd_kafka_message_t = message.ptr().cast();
        // SAFETY: `message` points at a live message for as long as its borrow, 'm; librdkafka fills in a pointer to
        // the headers that the message owns, or answers with an error.
        let answer = unsafe { rd_kafka_message_headers(message, &raw mut headers) };
        let found = answer == rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR && !headers.is_null();
        found.then_some(Self { headers, message: PhantomData })
    }

    /// `None` after the last header.
    fn get(&self, index: usize) -> Option<(&'m CStr, Option<&'m [u8]>)> {
        let (mut name, mut value, mut len) = (ptr::null(), ptr::null(), 0);
        // SAFETY: `headers` is valid for 'm (see `of`), and nothing changes it: it is never passed on. librdkafka fills
        // in pointers into it, or returns an error, also for an index beyond the end.
        let answer =
            unsafe { rd_kafka_header_get_all(self.headers, index, &raw mut name, &raw mut value, &raw mut len) };
        if answer != rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR || name.is_null() {
            return None;
        }
        // SAFETY: on success the name is a NUL-terminated string (rd_kafka_header_get_all's documentation) that lives
        // as long as the headers.
        let name = unsafe { CStr::from_ptr(name) };
        let value: *const u8 = value.cast();
        // SAFETY: on success, a value that is not null has `len` bytes that live as long as the headers. For an empty
        // value, a slice of our own is used, so that the pointer is not dereferenced.
        let value = (!value.is_null()).then(|| match len {
            0 => &[][..],
            _ => unsafe { std::slice::from_raw_parts(value, len) },
        });
        Some((name, value))
    }
}
