//! The parts of a run that the seed determines: clients, records, and the time of each fault. Pure.
//!
//! The rest depends on the machine, such as the time that a broker takes to start. The order of faults is the same
//! nevertheless.

use std::time::Duration;

use fastrand::Rng;

use crate::history::Text;

/// A topic, its initial and largest number of partitions, and the size of its window in events.
pub struct Topic {
    pub name: &'static str,
    pub partitions: i32,
    pub partitions_max: i32,
    pub replay_events: usize,
}

/// The window of the last one is so short that a client which is away for some seconds needs the log.
pub const TOPICS: [Topic; 3] = [
    Topic { name: "ledger", partitions: 12, partitions_max: 14, replay_events: 20_000 },
    Topic { name: "orders", partitions: 13, partitions_max: 16, replay_events: 20_000 },
    Topic { name: "brief", partitions: 2, partitions_max: 4, replay_events: 300 },
];
pub const TENANTS: [&str; 2] = ["blue", "green"];
/// Both tenants have users with these names.
pub const USERS: [&str; 4] = ["u0", "u1", "u2", "u3"];
pub const REPLICAS: usize = 3;
pub const BROKERS: usize = 3;
/// Events per second of the idempotent producer.
pub const RATE: u32 = 400;
/// Transactional producers, in addition.
pub const TRANSACTIONAL: usize = 2;

/// The longest and the shortest time between two faults.
const PAUSE_MAX: Duration = Duration::from_secs(3);
const PAUSE_MIN: Duration = Duration::from_millis(500);
/// From the start of a broker until one may be killed again: it takes time to rejoin, and two of three must be
/// available for a record to be acknowledged.
const BROKER_PAUSE: Duration = Duration::from_secs(25);
/// The duration of a fault, in milliseconds.
const HOLD_MS: std::ops::Range<u64> = 300..4_000;
/// The duration for a broker: its partitions get other leaders after nine seconds.
const BROKER_HOLD_MS: std::ops::Range<u64> = 300..14_000;
/// How long clients stay away, in milliseconds: longer than a short window covers.
const AWAY_MS: std::ops::Range<u64> = 1_000..10_000;
/// The number of clients that a fault affects.
const CLIENTS_HIT: usize = 6;
/// Padding of a record, so that the server notices a client that does not read.
const PADDING: std::ops::Range<usize> = 0..1_000;

/// The pause between two transactions, in milliseconds.
const TRANSACTION_PAUSE_MS: std::ops::Range<u64> = 0..150;
const TRANSACTION_RECORDS: std::ops::Range<usize> = 1..20;
/// One in this many transactions is aborted, and the first one, so that a short run on a busy machine has one.
const TRANSACTIONS_PER_ABORT: usize = 4;

/// All access scopes.
pub fn acls() -> Vec<Text> {
    TENANTS.iter().flat_map(|tenant| USERS.iter().map(move |user| format!("{tenant}/{user}").into())).collect()
}

/// A record to be produced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    pub uid: String,
    /// An index into [`TOPICS`].
    pub topic: usize,
    /// The partition is the remainder of the division by their number.
    pub draw: u32,
    /// An index into [`acls`].
    pub acl: usize,
    pub padding: usize,
}

/// The infinite sequence of records of one producer. Producer 0 is the idempotent one.
pub fn drafts(seed: u64, producer: usize) -> impl Iterator<Item = Draft> {
    let mut rng = Rng::with_seed(seed.wrapping_add(producer as u64 * 0x9e37_79b9));
    let acls = TENANTS.len() * USERS.len();
    (0..).map(move |n: u64| Draft {
        uid: format!("p{producer}-{n}"),
        topic: rng.usize(..TOPICS.len()),
        draw: rng.u32(..),
        acl: rng.usize(..acls),
        padding: rng.usize(PADDING),
    })
}

/// A transaction of a producer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transaction {
    /// From the end of the previous one.
    pub pause: Duration,
    pub records: usize,
    pub is_committed: bool,
}

/// The infinite sequence of transactions of one producer.
pub fn transactions(seed: u64, producer: usize) -> impl Iterator<Item = Transaction> {
    let mut rng = Rng::with_seed(seed.rotate_left(32).wrapping_add(producer as u64));
    (0..).map(move |n: u64| Transaction {
        pause: Duration::from_millis(rng.u64(TRANSACTION_PAUSE_MS)),
        records: rng.usize(TRANSACTION_RECORDS),
        is_committed: n > 0 && rng.usize(..TRANSACTIONS_PER_ABORT) > 0,
    })
}

/// Brokers, replicas, clients and topics by index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A replica is killed, and restarted later.
    Kill(usize),
    /// A replica is asked to end, and restarted later.
    Drain(usize),
    /// A replica's network to the brokers is cut.
    Cut(usize),
    /// A replica's configuration changes.
    Reload(usize),
    /// A replica's configuration is invalid for a while.
    BadReload(usize),
    /// A broker is killed, and restarted on its data later.
    Broker(usize),
    /// A topic gets another partition.
    Grow(usize),
    /// Hostile clients flood a replica with requests and frames.
    Flood(usize),
    /// Clients break their connections.
    Reset(Vec<usize>),
    /// Clients stop reading for this long.
    Stall(Vec<usize>, Duration),
    /// Clients break their connections, and return after this long.
    Leave(Vec<usize>, Duration),
}

impl Fault {
    pub fn name(&self) -> &'static str {
        match self {
            Self::Kill(_) => "kill",
            Self::Drain(_) => "drain",
            Self::Cut(_) => "cut",
            Self::Reload(_) => "reload",
            Self::BadReload(_) => "bad-reload",
            Self::Broker(_) => "broker",
            Self::Grow(_) => "grow",
            Self::Flood(_) => "flood",
            Self::Reset(_) => "reset",
            Self::Stall(..) => "stall",
            Self::Leave(..) => "leave",
        }
    }
}

/// One step of the plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    pub at: Duration,
    pub fault: Fault,
    /// Whether the fault begins or ends.
    pub begins: bool,
}

/// The faults of a run in order of time; all end before the run is over.
pub fn faults(seed: u64, duration: Duration, clients: usize) -> Vec<Step> {
    let mut planner = Planner::new(seed, clients);
    let pause = (duration / 12).clamp(PAUSE_MIN, PAUSE_MAX);
    let mut at = pause;
    while at + pause < duration {
        planner.add(at, duration);
        at += pause.mul_f64(0.5 + planner.rng.f64());
    }
    planner.steps.sort_by_key(|step| step.at);
    planner.steps
}

struct Planner {
    rng: Rng,
    clients: usize,
    steps: Vec<Step>,
    /// The kinds that must occur before one occurs again.
    deck: Vec<usize>,
    /// Until when each replica is reserved for its current fault.
    busy: [Duration; REPLICAS],
    /// When a broker was last restarted.
    broker_back: Option<Duration>,
    partitions: [i32; TOPICS.len()],
}

impl Planner {
    const KINDS: usize = 11;

    fn new(seed: u64, clients: usize) -> Self {
        // Another random sequence than that of the records.
        let rng = Rng::with_seed(seed ^ 0x5eed);
        let partitions = TOPICS.map(|topic| topic.partitions);
        let busy = [Duration::ZERO; REPLICAS];
        Self { rng, clients, steps: Vec::new(), deck: Vec::new(), busy, broker_back: None, partitions }
    }

    fn add(&mut self, at: Duration, duration: Duration) {
        let until = (at + Duration::from_millis(self.rng.u64(HOLD_MS))).min(duration);
        let fault = self.draw(at, until, duration);
        let end = match fault {
            Fault::Reload(_) | Fault::Grow(_) | Fault::Reset(_) => at,
            Fault::Leave(_, away) => (at + away).min(duration),
            Fault::Broker(_) => self.broker_back.unwrap_or(until),
            _ => until,
        };
        self.steps.push(Step { at, fault: fault.clone(), begins: true });
        self.steps.push(Step { at: end, fault, begins: false });
    }

    /// The next kind of the deck; a reset if that kind is not possible now.
    fn draw(&mut self, at: Duration, until: Duration, duration: Duration) -> Fault {
        if self.deck.is_empty() {
            self.deck = (0..Self::KINDS).collect();
            self.rng.shuffle(&mut self.deck);
        }
        let fault = match self.deck.pop() {
            Some(0) => self.replica(at, until).map(Fault::Kill),
            Some(1) => self.replica(at, until).map(Fault::Drain),
            Some(2) => self.replica(at, until).map(Fault::Cut),
            Some(3) => self.replica(at, until).map(Fault::Reload),
            Some(4) => self.replica(at, until).map(Fault::BadReload),
            Some(5) => self.broker(at, duration),
            Some(6) => self.grow(at),
            Some(7) => Some(Fault::Stall(self.some_clients(), until - at)),
            Some(8) => Some(self.leave()),
            Some(9) => self.replica(at, until).map(Fault::Flood),
            _ => None,
        };
        fault.unwrap_or_else(|| Fault::Reset(self.some_clients()))
    }

    fn broker(&mut self, at: Duration, duration: Duration) -> Option<Fault> {
        if self.broker_back.is_some_and(|back| at < back + BROKER_PAUSE) {
            return None;
        }
        self.broker_back = Some((at + Duration::from_millis(self.rng.u64(BROKER_HOLD_MS))).min(duration));
        Some(Fault::Broker(self.rng.usize(..BROKERS)))
    }

    /// A replica without a fault, if there is one.
    fn replica(&mut self, at: Duration, until: Duration) -> Option<usize> {
        let idle: Vec<_> = (0..REPLICAS).filter(|replica| self.busy[*replica] <= at).collect();
        let replica = *self.rng.choice(&idle)?;
        self.busy[replica] = until;
        Some(replica)
    }

    /// Only while every broker is available, because each gets a replica.
    fn grow(&mut self, at: Duration) -> Option<Fault> {
        if self.broker_back.is_some_and(|back| at < back) {
            return None;
        }
        let open: Vec<_> = (0..TOPICS.len()).filter(|n| self.partitions[*n] < TOPICS[*n].partitions_max).collect();
        let topic = *self.rng.choice(&open)?;
        self.partitions[topic] += 1;
        Some(Fault::Grow(topic))
    }

    fn leave(&mut self) -> Fault {
        let away = Duration::from_millis(self.rng.u64(AWAY_MS));
        Fault::Leave(self.some_clients(), away)
    }

    fn some_clients(&mut self) -> Vec<usize> {
        let count = CLIENTS_HIT.min(self.clients);
        self.rng.choose_multiple(0..self.clients, count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DURATION: Duration = Duration::from_secs(60);

    #[test]
    fn a_seed_gives_the_same_plan_and_another_one_another() {
        assert_eq!(faults(7, DURATION, 24), faults(7, DURATION, 24));
        assert_ne!(faults(7, DURATION, 24), faults(8, DURATION, 24));
        let drafts = |seed, producer| drafts(seed, producer).take(1_000).collect::<Vec<_>>();
        assert_eq!(drafts(7, 0), drafts(7, 0));
        assert_ne!(drafts(7, 0), drafts(8, 0));
        let transactions = |seed, producer| transactions(seed, producer).take(100).collect::<Vec<_>>();
        assert_eq!(transactions(7, 1), transactions(7, 1));
        assert_ne!(transactions(7, 1), transactions(7, 2));
    }

    #[test]
    fn every_fault_comes_and_ends_in_time() {
        for seed in 0..50 {
            let steps = faults(seed, DURATION * 2, 24);
            let (begun, ended): (Vec<_>, Vec<_>) = steps.iter().partition(|step| step.begins);
            assert_eq!(begun.len(), ended.len());
            assert!(steps.iter().all(|step| step.at <= DURATION * 2));
            assert_eq!(kinds(&steps), Planner::KINDS, "{steps:?}");
        }
        assert_eq!(kinds(&faults(crate::SHORT_SEED, crate::SHORT, 24)), Planner::KINDS);
    }

    fn kinds(steps: &[Step]) -> usize {
        let kinds: std::collections::BTreeSet<_> = steps.iter().map(|step| step.fault.name()).collect();
        kinds.len()
    }

    #[test]
    fn no_fault_hits_a_component_that_is_down() {
        for seed in 0..50 {
            let mut down = std::collections::BTreeSet::new();
            for step in faults(seed, DURATION * 5, 24) {
                if let Fault::Kill(replica) | Fault::Drain(replica) = step.fault {
                    assert!(if step.begins { down.insert(replica) } else { down.remove(&replica) });
                } else if let Fault::Reload(replica)
                | Fault::BadReload(replica)
                | Fault::Cut(replica)
                | Fault::Flood(replica) = step.fault
                {
                    assert!(!down.contains(&replica));
                } else if let Fault::Grow(_) = step.fault {
                    assert!(!down.contains(&REPLICAS), "nobody could be asked");
                } else if let Fault::Broker(_) = step.fault {
                    assert!(if step.begins { down.insert(REPLICAS) } else { down.remove(&REPLICAS) });
                }
            }
            assert!(down.is_empty());
        }
    }
}
