//! Distinguishes a dead peer from one that does not read, based on the kernel's state of the connection. It reads
//! neither the clock nor the socket.
//!
//! A peer is dead if it has acknowledged nothing for the peer timeout although data was sent. A peer that does not read
//! acknowledges retransmissions and the kernel's window probes (RFC 9293 section 3.8.6.1): it is a slow consumer, for
//! as long as the route allows.
//!
//! `TCP_USER_TIMEOUT` alone cannot distinguish them, because Linux also counts the time of a closed window. It is used
//! for its side effect: the kernel sends a probe before it expires, where it would otherwise wait up to two minutes.
//! Each check extends it.

use std::time::{Duration, Instant};

use super::tcp_info::Peer;

/// Checks per peer timeout of a peer that does not read.
const LOOKS: u32 = 12;
/// Probes per peer timeout: the loss of two is tolerated.
const PROBES: u32 = 3;

/// The observations of a peer that does not have everything that was written.
#[derive(Debug)]
pub(super) struct Watch {
    /// The time of the first write after it had everything.
    began: Instant,
    /// The earliest time since which it has acknowledged nothing new.
    stuck: Instant,
    /// The acknowledged bytes at that time.
    acked: Option<u64>,
    looked: Instant,
    /// The time of the next check.
    pub(super) at: Instant,
    /// Whether no timer has been set for it.
    pub(super) is_new: bool,
    /// Whether `TCP_USER_TIMEOUT` is set on this socket.
    pub(super) is_paced: bool,
}

/// The timeouts of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Patience {
    /// Without acknowledgements.
    pub(super) peer: Duration,
    /// With acknowledgements, but a closed window.
    pub(super) stall: Duration,
}

/// The result of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// The peer has everything.
    Everything,
    /// It has to be checked again. `TCP_USER_TIMEOUT` is to be set to this; `None`: the kernel must not decide.
    Behind(Option<Duration>),
    /// It has not read for too long.
    Stalled,
    Gone,
}

impl Watch {
    /// Data is written to a peer that had everything.
    pub(super) fn begin(now: Instant, patience: Duration) -> Self {
        Self { began: now, stuck: now, acked: None, looked: now, at: now + patience / 2, is_new: true, is_paced: false }
    }

    pub(super) fn look(&mut self, peer: &Peer, patience: Patience, now: Instant) -> Seen {
        if !peer.is_behind() {
            return Seen::Everything;
        }
        // The last acknowledgement may precede the write.
        let silent = peer.silent.min(now.saturating_duration_since(self.began));
        if silent >= patience.peer && peer.is_unanswered() {
            return Seen::Gone;
        }
        let often = patience.peer / LOOKS;
        let took = self.acked.replace(peer.acked).map(|before| before != peer.acked);
        if took == Some(true) {
            self.stuck = self.looked;
        }
        self.looked = now;
        let stuck = now.saturating_duration_since(self.stuck);
        self.at = now + if took == Some(true) { patience.peer / 4 } else { often };
        match took {
            // The kernel counts from a moment after `stuck`.
            Some(false) if stuck < patience.stall => Seen::Behind(Some(stuck + patience.peer / PROBES + often)),
            Some(false) => Seen::Stalled,
            Some(true) | None => Seen::Behind(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Patience = Patience { peer: Duration::from_secs(12), stall: Duration::from_secs(100) };
    const HAS_ALL: Peer = Peer {
        is_unacked: false,
        is_unsent: false,
        is_probed: false,
        acked: 7,
        sent: Duration::ZERO,
        silent: Duration::ZERO,
    };
    const SENT: Peer = Peer { is_unacked: true, ..HAS_ALL };
    const CLOSED: Peer = Peer { is_unsent: true, ..HAS_ALL };

    /// Checks whenever due, for this long, a peer with the given state after each number of seconds.
    fn watch(seconds: u64, peer: impl Fn(u64) -> Peer) -> (u64, Seen) {
        let start = Instant::now();
        let mut watch = Watch::begin(start, PATIENCE.peer);
        loop {
            let now = watch.at;
            let after = (now - start).as_secs();
            let seen = watch.look(&peer(after), PATIENCE, now);
            assert!(watch.at > now || !matches!(seen, Seen::Behind(_)), "it looks again and again at once");
            if after >= seconds || !matches!(seen, Seen::Behind(_)) {
                return (after, seen);
            }
            if let Seen::Behind(Some(limit)) = seen {
                let from_stuck = now - watch.stuck + Duration::from_secs(1) * 4;
                assert!(limit >= from_stuck, "the kernel would give the peer up");
            }
        }
    }

    fn silent(peer: Peer, seconds: u64) -> Peer {
        Peer { silent: Duration::from_secs(seconds), ..peer }
    }

    #[test]
    fn a_peer_without_acknowledgements_is_dead_after_its_timeout() {
        assert_eq!(watch(60, |after| silent(SENT, after)), (12, Seen::Gone));
        let acknowledged_before = |after| silent(SENT, after + 1000);
        assert_eq!(watch(60, acknowledged_before), (12, Seen::Gone), "silence before it was written to does not count");
        let probed = |after| Peer { is_probed: true, ..silent(CLOSED, after) };
        assert_eq!(watch(60, probed), (12, Seen::Gone));
    }

    #[test]
    fn a_slow_peer_is_not_dead() {
        assert_eq!(watch(60, |_| HAS_ALL), (6, Seen::Everything));
        assert!(matches!(watch(60, |after| Peer { acked: after, ..SENT }), (60.., Seen::Behind(None))));
        assert!(matches!(watch(60, |after| silent(CLOSED, after % 4)), (60.., Seen::Behind(Some(_)))));
        // Its window is closed while something is in flight, which is retransmitted ever more rarely.
        let sent_again = |after| Peer { sent: Duration::from_secs(after % 30), ..silent(SENT, after % 30) };
        assert!(matches!(watch(60, sent_again), (60.., Seen::Behind(Some(_)))));
        let a_probe_is_lost = |after| Peer { is_probed: after % 8 > 4, ..silent(CLOSED, after % 8) };
        assert!(matches!(watch(60, a_probe_is_lost), (60.., Seen::Behind(Some(_)))));
    }

    #[test]
    fn a_peer_that_does_not_read_has_the_stall_timeout() {
        assert_eq!(watch(600, |after| silent(CLOSED, after % 4)), (100, Seen::Stalled));
        let a_little_after = |after: u64| Peer { acked: after / 90, ..silent(CLOSED, after % 4) };
        assert!(matches!(watch(600, a_little_after), (600.., Seen::Behind(_))));
    }
}
