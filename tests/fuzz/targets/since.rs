//! Any text as `since`: it is rejected, or is a cursor, a position within a snapshot or a time.

#![no_main]

use libfuzzer_sys::fuzz_target;
use sidestream::session::{POSITION_BYTES_MAX, Resume};

fuzz_target!(|input: (&str, i64)| {
    let (text, now) = input;
    match text.parse::<Resume>() {
        Err(_) => {}
        Ok(Resume::From(cursor)) => assert_eq!(cursor.to_string().parse(), Ok(Resume::From(cursor))),
        // A replica writes the text again when it answers that a position expired.
        Ok(resume @ Resume::Within(_)) => assert_eq!(resume.cursor_text().map(|text| text.parse()), Some(Ok(resume))),
        Ok(resume) => {
            assert!(text.len() <= POSITION_BYTES_MAX);
            assert!(matches!(resume.at(now), Resume::At(_)));
        }
    }
});
