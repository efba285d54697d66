//! Makes a client look up the leaders of topics' partitions, without waiting for the response.
//!
//! librdkafka requests the metadata of its known topics when it connects. If it learns of a topic later, by an
//! assignment, it looks up the leaders on a timer of one second (`rd_kafka_topic_scan_all`), and fetches nothing
//! before. `rd_kafka_topic_new` requests the metadata at once; rdkafka calls it only in functions that block. The
//! result is not returned: the client keeps it.
#![allow(unsafe_code)]

use std::ffi::CString;
use std::ptr;

use rdkafka::bindings as sys;
use rdkafka::client::{Client, ClientContext};

use crate::event::Topic;

/// Requests the leaders of all partitions of these topics, named as in the cluster. The client keeps the topics for its
/// lifetime, and refreshes their metadata.
pub(super) fn look_up<'a>(client: &Client<impl ClientContext>, topics: impl IntoIterator<Item = &'a Topic>) {
    for topic in topics {
        // A name with a NUL is not a valid topic name, and no configuration contains one.
        let Ok(name) = CString::new(&**topic) else { continue };
        // SAFETY: the client is alive, and the name is a NUL-terminated string, which is copied. Null selects the
        // default configuration. The returned reference is released here once; the client keeps its own.
        unsafe {
            let topic = sys::rd_kafka_topic_new(client.native_ptr(), name.as_ptr(), ptr::null_mut());
            if !topic.is_null() {
                sys::rd_kafka_topic_destroy(topic);
            }
        }
    }
}
