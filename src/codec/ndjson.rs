//! Newline-delimited JSON: one object a line, ended by LF.

use crate::event::Event;
use crate::reserved::looks_like_ours;
use crate::route::DataForm;

use super::json;

/// A heartbeat that readers skip: an empty line.
pub const EMPTY_LINE: &[u8] = b"\n";

/// One event. A payload that might be taken for an object of ours begins with a space, as none of ours does.
pub fn event(event: &Event, cursor: &[u8], data: DataForm) -> Vec<u8> {
    let mut line = Vec::with_capacity(event.envelope.len() + cursor.len() + 16);
    match data {
        DataForm::Envelope => json::put_envelope_with_cursor(&mut line, event, cursor),
        DataForm::Payload => {
            if looks_like_ours(event.data()) {
                line.push(b' ');
            }
            line.extend_from_slice(event.data());
        }
    }
    line.push(b'\n');
    line
}

/// Any other object.
pub fn line(mut object: Vec<u8>) -> Vec<u8> {
    object.push(b'\n');
    object
}
