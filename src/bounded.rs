//! Runs a parser or a compiler that recurses, in a thread with a large stack and a limited time. A panic is an error.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// The stack of the thread: in an unoptimized build, parsers take many kilobytes per level.
const STACK_BYTES: usize = 64 << 20;
/// How long it may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Runs `task`, which is `parsing the rule`, for example.
///
/// # Errors
///
/// Why there is no result.
pub(crate) fn run<T: Send + 'static>(task: &str, work: impl FnOnce() -> T + Send + 'static) -> Result<T, String> {
    let (sender, receiver) = mpsc::channel();
    let thread = thread::Builder::new().name("bounded".into()).stack_size(STACK_BYTES);
    let started = thread.spawn(move || {
        // The receiver may have timed out.
        let _ = sender.send(work());
    });
    started.map_err(|error| format!("{task} is not possible now: {error}"))?;
    receiver.recv_timeout(TIMEOUT).map_err(|error| match error {
        mpsc::RecvTimeoutError::Timeout => format!("{task} takes too long"),
        mpsc::RecvTimeoutError::Disconnected => format!("{task} failed, which is a bug of sidestream"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_error() {
        assert_eq!(run("adding", || 1 + 1), Ok(2));
        let failed = run("failing", || -> u8 { panic!("on purpose") });
        assert_eq!(failed, Err("failing failed, which is a bug of sidestream".into()));
    }
}
