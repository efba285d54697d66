//! Faults that tests inject into a debug build. Release builds contain none of this.

/// `PLACE=TEXT,...`: panics at a place if its bytes contain the text.
#[cfg(debug_assertions)]
const FAULT_VARIABLE: &str = "SIDESTREAM_FAULT";

/// Panics at `place` if a test requested it for these bytes.
#[cfg(debug_assertions)]
#[allow(clippy::panic)] // On purpose.
pub(crate) fn provoke(place: &str, bytes: &[u8]) {
    static FAULTS: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    let faults = FAULTS.get_or_init(|| std::env::var(FAULT_VARIABLE).unwrap_or_default());
    for (at, text) in faults.split(',').filter_map(|fault| fault.split_once('=')) {
        if at == place && memchr::memmem::find(bytes, text.as_bytes()).is_some() {
            panic!("provoked by {FAULT_VARIABLE}");
        }
    }
}

#[cfg(not(debug_assertions))]
pub(crate) fn provoke(_: &str, _: &[u8]) {}
