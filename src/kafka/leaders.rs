//! Has a client look up the leaders of topics' partitions, without waiting for the answer.
//!
//! librdkafka asks for the metadata of the topics it knows when it connects. Of a topic that it learns of later, by an
//! assignment, it looks for the leaders with a timer of one second (`rd_kafka_topic_scan_all`), and reads nothing before.
//! `rd_kafka_topic_new` asks at once; rdkafka calls it only in functions that block. No answer is given here: the client
//! keeps it.
#![allow(unsafe_code)]

use std::ffi::CString;
use std::ptr;

use rdkafka::bindings as sys;
use rdkafka::client::{Client, ClientContext};

use crate::event::Topic;

/// Asks for the leaders of all partitions of these topics, as the cluster names them. The client knows the topics for as
/// long as it lives, and refreshes what it knows.
pub(super) fn look_up<'a>(client: &Client<impl ClientContext>, topics: impl IntoIterator<Item = &'a Topic>) {
    for topic in topics {
        // A name with a NUL in it is no topic's, and no configuration holds one.
        let Ok(name) = CString::new(&**topic) else { continue };
        // SAFETY: the client is alive, and the name is a NUL-terminated string, which is copied; null stands for the
        // default configuration. The reference that is given is released here and once; the client keeps its own.
        unsafe {
            let topic = sys::rd_kafka_topic_new(client.native_ptr(), name.as_ptr(), ptr::null_mut());
            if !topic.is_null() {
                sys::rd_kafka_topic_destroy(topic);
            }
        }
    }
}
