//! What the kernel knows of a peer (`TCP_INFO`, tcp(7)), which no library in the tree offers.

#![allow(unsafe_code)]

use std::io;
use std::mem::{MaybeUninit, size_of};
use std::os::fd::AsRawFd;
use std::time::Duration;

/// How much of what was written the peer has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Peer {
    /// Whether something is on its way, sent and not acknowledged.
    pub(super) is_unacked: bool,
    /// Whether something waits to be sent, because the peer's window (or the network) takes no more.
    pub(super) is_unsent: bool,
    /// Whether the kernel asked for a window that is closed, and was not answered so far.
    pub(super) is_probed: bool,
    /// Bytes that were acknowledged so far.
    pub(super) acked: u64,
    /// How long ago data was sent last, for the first time or again.
    pub(super) sent: Duration,
    /// How long ago the last acknowledgement, of whatever, came.
    pub(super) silent: Duration,
}

impl Peer {
    pub(super) fn of(socket: &impl AsRawFd) -> io::Result<Self> {
        let mut info = MaybeUninit::<libc::tcp_info>::zeroed();
        let mut length = size_of::<libc::tcp_info>() as libc::socklen_t;
        let place = info.as_mut_ptr().cast();
        // SAFETY: `place` has room for `length` bytes, and the descriptor is open as long as `socket` is borrowed.
        let result =
            unsafe { libc::getsockopt(socket.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_INFO, place, &mut length) };
        if result != 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: all fields are integers, for which zeros are values; an older kernel fills fewer of them.
        let info = unsafe { info.assume_init() };
        Ok(Self {
            is_unacked: info.tcpi_unacked > 0,
            is_unsent: info.tcpi_notsent_bytes > 0,
            is_probed: info.tcpi_probes > 0,
            acked: info.tcpi_bytes_acked,
            sent: Duration::from_millis(info.tcpi_last_data_sent.into()),
            silent: Duration::from_millis(info.tcpi_last_ack_recv.into()),
        })
    }

    /// Whether the peer does not have everything that was written.
    pub(super) fn is_behind(&self) -> bool {
        self.is_unacked || self.is_unsent
    }

    /// Whether something was sent, again or as a probe, since it acknowledged anything.
    pub(super) fn is_unanswered(&self) -> bool {
        self.is_probed || (self.is_unacked && self.sent < self.silent)
    }
}
