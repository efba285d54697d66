//! Any text as a configuration: it is rejected with positions inside of the text, or compiles to the same snapshot
//! every time.

#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use sidestream::config::{Budget, Diff, parse};

fuzz_target!(|text: &str| {
    // The files that it names do not exist.
    let read = || parse(text, "fuzz.yaml", Path::new("/nonexistent"));
    match read() {
        Ok(snapshot) => {
            let again = read().expect("what was accepted once");
            assert!(Diff::between(&snapshot, &again).is_empty());
            assert!(!Budget::of(&snapshot).to_string().is_empty());
        }
        Err(error) => {
            let found = error.diagnostics();
            assert!(!found.is_empty(), "rejected without a reason");
            let lines = text.split(['\n', '\r']).count() as u64;
            for diagnostic in found {
                assert!(diagnostic.line <= lines + 1, "{diagnostic}");
                assert!(!diagnostic.render().is_empty());
            }
        }
    }
});
