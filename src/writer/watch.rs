//! Telling a peer that is gone from one that does not read. It decides by what the kernel knows of the peer; it reads
//! neither clock nor socket.
//!
//! A peer is gone where nothing was acknowledged for the peer timeout although something was sent. A peer that does not
//! read acknowledges what is sent again, and the kernel's window probes (RFC 9293 section 3.8.6.1): that is a slow
//! consumer, for as long as the route allows.
//!
//! `TCP_USER_TIMEOUT` alone can't tell them apart: Linux counts the time of a closed window as well. It is used for its
//! side effect: the kernel sends again before it is over, where it would otherwise wait for up to two minutes. Each look
//! puts it off.

use std::time::{Duration, Instant};

use super::tcp_info::Peer;

/// Looks in a peer timeout at a peer that takes nothing.
const LOOKS: u32 = 12;
/// How often something is sent to it in that time: losing two of them is no death.
const PROBES: u32 = 3;

/// What was seen of a peer since it did not have everything that was written.
#[derive(Debug)]
pub(super) struct Watch {
    /// When it was written to, having had everything before.
    began: Instant,
    /// Since when it acknowledged nothing new; as early as that may be.
    stuck: Instant,
    /// What it had acknowledged then.
    acked: Option<u64>,
    looked: Instant,
    /// When to look next.
    pub(super) at: Instant,
    /// Whether no timer was set for it so far.
    pub(super) is_new: bool,
    /// Whether the kernel has a `TCP_USER_TIMEOUT` for this socket.
    pub(super) is_paced: bool,
}

/// How long what may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Patience {
    /// With a peer that acknowledges nothing.
    pub(super) peer: Duration,
    /// With a peer that acknowledges, but takes nothing.
    pub(super) stall: Duration,
}

/// What a look came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// The peer has everything.
    Everything,
    /// It has to be looked at again. `TCP_USER_TIMEOUT` is to be this; none: the kernel is not to decide.
    Behind(Option<Duration>),
    /// It reads nothing, for too long.
    Stalled,
    Gone,
}

impl Watch {
    /// The peer is written to and had everything before.
    pub(super) fn begin(now: Instant, patience: Duration) -> Self {
        Self { began: now, stuck: now, acked: None, looked: now, at: now + patience / 2, is_new: true, is_paced: false }
    }

    pub(super) fn look(&mut self, peer: &Peer, patience: Patience, now: Instant) -> Seen {
        if !peer.is_behind() {
            return Seen::Everything;
        }
        // The last acknowledgement may be of long before there was anything to acknowledge.
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

    /// Looks whenever the watch says so, for so long, at the peer as it is after so many seconds.
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
    fn a_peer_that_acknowledges_nothing_is_gone_within_its_time() {
        assert_eq!(watch(60, |after| silent(SENT, after)), (12, Seen::Gone));
        let acknowledged_before = |after| silent(SENT, after + 1000);
        assert_eq!(watch(60, acknowledged_before), (12, Seen::Gone), "silence before it was written to does not count");
        let probed = |after| Peer { is_probed: true, ..silent(CLOSED, after) };
        assert_eq!(watch(60, probed), (12, Seen::Gone));
    }

    #[test]
    fn a_peer_that_takes_its_time_is_not() {
        assert_eq!(watch(60, |_| HAS_ALL), (6, Seen::Everything));
        assert!(matches!(watch(60, |after| Peer { acked: after, ..SENT }), (60.., Seen::Behind(None))));
        assert!(matches!(watch(60, |after| silent(CLOSED, after % 4)), (60.., Seen::Behind(Some(_)))));
        // Its window is closed while something is on its way, which is sent again ever more rarely.
        let sent_again = |after| Peer { sent: Duration::from_secs(after % 30), ..silent(SENT, after % 30) };
        assert!(matches!(watch(60, sent_again), (60.., Seen::Behind(Some(_)))));
        let a_probe_is_lost = |after| Peer { is_probed: after % 8 > 4, ..silent(CLOSED, after % 8) };
        assert!(matches!(watch(60, a_probe_is_lost), (60.., Seen::Behind(Some(_)))));
    }

    #[test]
    fn a_peer_that_reads_nothing_has_the_time_of_the_route() {
        assert_eq!(watch(600, |after| silent(CLOSED, after % 4)), (100, Seen::Stalled));
        let a_little_after = |after: u64| Peer { acked: after / 90, ..silent(CLOSED, after % 4) };
        assert!(matches!(watch(600, a_little_after), (600.., Seen::Behind(_))));
    }
}
