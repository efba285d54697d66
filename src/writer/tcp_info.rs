//! The kernel's state of a TCP connection (`TCP_INFO`, tcp(7)), which no library in the dependency tree provides.

#![allow(unsafe_code)]

use std::io;
use std::mem::{MaybeUninit, size_of};
use std::os::fd::AsRawFd;
use std::time::Duration;

/// How much of the written data the peer has acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Peer {
    /// Whether data is in flight: sent and not acknowledged.
    pub(crate) is_unacked: bool,
    /// Whether data waits to be sent because the peer's window or the network accepts no more.
    pub(crate) is_unsent: bool,
    /// Whether the kernel has sent window probes that are not acknowledged yet.
    pub(crate) is_probed: bool,
    /// The acknowledged bytes.
    pub(crate) acked: u64,
    /// The time since data was last sent, including retransmissions.
    pub(crate) sent: Duration,
    /// The time since the last acknowledgement.
    pub(crate) silent: Duration,
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

    /// Whether data or a probe was sent after the last acknowledgement.
    pub(super) fn is_unanswered(&self) -> bool {
        self.is_probed || (self.is_unacked && self.sent < self.silent)
    }
}
