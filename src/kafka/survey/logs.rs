//! Requests the first and last offsets of logs. Requests are sent per leader, so that an unresponsive one delays only
//! its own partitions.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use rdkafka::TopicPartitionList;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::topic_partition_list::Offset;

use crate::kafka::ask::{self, LogName, Offsets, Question};
use crate::kafka::client::{Client, Isolation};
use crate::kafka::topic::LogEnds;

/// A log whose offsets are requested.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) log: LogName,
    pub(super) leader: Option<i32>,
    /// A time in milliseconds since the Unix epoch. Its offset is requested too.
    pub(super) ms: Option<i64>,
}

/// The offsets of each log, or the error.
pub(super) type Answers = HashMap<LogName, Result<LogEnds, RDKafkaErrorCode>>;

/// Pending requests.
pub(super) struct Logs {
    leaders: Vec<OfLeader>,
    answers: Answers,
}

/// The requests to one leader.
struct OfLeader {
    wanted: Vec<Wanted>,
    starts: Asked,
    ends: Asked,
    times: Option<Asked>,
}

enum Asked {
    Waiting(Question<Offsets>),
    Answered(Result<Offsets, RDKafkaErrorCode>),
}

impl Logs {
    /// Sends requests to all leaders concurrently, with this timeout.
    pub(super) fn ask(client: &Arc<Client>, wanted: Vec<Wanted>, limit: Duration) -> Result<Self, KafkaError> {
        let (mut by_leader, mut answers) = (BTreeMap::<i32, Vec<Wanted>>::new(), Answers::new());
        for wanted in wanted {
            match wanted.leader {
                Some(leader) => by_leader.entry(leader).or_default().push(wanted),
                None => drop(answers.insert(wanted.log, Err(RDKafkaErrorCode::LeaderNotAvailable))),
            }
        }
        let leaders = by_leader.into_values().map(|wanted| OfLeader::ask(client, wanted, limit));
        Ok(Self { leaders: leaders.collect::<Result<_, _>>()?, answers })
    }

    /// The responses, once every leader has responded or timed out. Does not block.
    pub(super) fn answers(&mut self) -> Option<Answers> {
        let answers = &mut self.answers;
        self.leaders.retain_mut(|leader| match leader.is_answered() {
            true => {
                leader.collect(answers);
                false
            }
            false => true,
        });
        self.leaders.is_empty().then(|| std::mem::take(answers))
    }
}

impl OfLeader {
    /// Requests the start first, so that concurrent appends and deletions cannot make the log end before it begins.
    fn ask(client: &Arc<Client>, wanted: Vec<Wanted>, limit: Duration) -> Result<Self, KafkaError> {
        let ask = |offset: fn(&Wanted) -> Option<Offset>| {
            let mut list = TopicPartitionList::new();
            for (wanted, offset) in wanted.iter().filter_map(|wanted| Some((wanted, offset(wanted)?))) {
                list.add_partition_offset(&wanted.log.0, wanted.log.1, offset)?;
            }
            let asked = || Asked::Waiting(ask::offsets(client, &list, Isolation::Uncommitted, limit));
            Ok::<_, KafkaError>((list.count() > 0).then(asked))
        };
        let none = || Asked::Answered(Ok(Offsets::new()));
        let starts = ask(|_| Some(Offset::Beginning))?.unwrap_or_else(none);
        let ends = ask(|_| Some(Offset::End))?.unwrap_or_else(none);
        let times = ask(|wanted| wanted.ms.map(Offset::Offset))?;
        Ok(Self { wanted, starts, ends, times })
    }

    fn is_answered(&mut self) -> bool {
        [&mut self.starts, &mut self.ends].into_iter().chain(&mut self.times).all(Asked::is_answered)
    }

    fn collect(&mut self, answers: &mut Answers) {
        for Wanted { log, ms, .. } in self.wanted.drain(..) {
            let ends = |low, high| {
                let at = self.times.as_ref().filter(|_| ms.is_some()).map(|times| times.offset(&log));
                Ok(LogEnds { low: low?, high: high?, at: at.transpose()? })
            };
            let ends = ends(self.starts.offset(&log), self.ends.offset(&log));
            answers.insert(log, ends);
        }
    }
}

impl Asked {
    fn is_answered(&mut self) -> bool {
        if let Self::Waiting(question) = self {
            let Some(answer) = question.answer() else { return false };
            let code = |error: KafkaError| error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown);
            *self = Self::Answered(answer.map_err(code));
        }
        true
    }

    fn offset(&self, log: &LogName) -> Result<i64, RDKafkaErrorCode> {
        match self {
            Self::Answered(Ok(offsets)) => offsets.get(log).copied().unwrap_or(Err(RDKafkaErrorCode::UnknownPartition)),
            Self::Answered(Err(code)) => Err(*code),
            Self::Waiting(_) => Err(RDKafkaErrorCode::OperationTimedOut),
        }
    }
}
