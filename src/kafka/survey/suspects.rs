//! The partitions in which the client may have lost its position: its error does not name them.
//!
//! A partition is suspect until its leader has answered once after the error, so that one silent leader does not make
//! the others be compared and assigned again in every survey.

use std::collections::HashSet;
use std::mem;

use super::logs::Answers;
use crate::kafka::ask::LogName;

#[derive(Default)]
pub(super) struct Suspects {
    /// Whether an error has arrived since the current survey began.
    all: bool,
    /// Those of the current survey: at most the partitions that are read.
    of_survey: HashSet<LogName>,
    /// Those of which no survey has an answer.
    left: HashSet<LogName>,
    /// Whether the current survey has any.
    is_needed: bool,
}

impl Suspects {
    /// Any partition may be affected.
    pub(super) fn add_all(&mut self) {
        self.all = true;
    }

    /// A survey begins, while these partitions are read.
    pub(super) fn begin(&mut self, reads: impl Iterator<Item = LogName>) {
        self.of_survey = mem::take(&mut self.left);
        if mem::take(&mut self.all) {
            self.of_survey.extend(reads);
        }
        self.is_needed = !self.of_survey.is_empty();
    }

    /// The suspect partitions of a topic in the current survey.
    pub(super) fn of(&self, source: &str) -> Vec<i32> {
        self.of_survey.iter().filter(|(name, _)| name == source).map(|(_, id)| *id).collect()
    }

    /// These have been answered.
    pub(super) fn clear(&mut self, answers: &Answers) {
        self.of_survey.retain(|log| !matches!(answers.get(log), Some(Ok(_))));
    }

    /// The survey has ended: the others remain. Returns whether there were any.
    pub(super) fn put_back(&mut self) -> bool {
        self.left.extend(self.of_survey.drain());
        mem::take(&mut self.is_needed)
    }
}

#[cfg(test)]
mod tests {
    use rdkafka::error::RDKafkaErrorCode;

    use super::*;
    use crate::kafka::topic::LogEnds;

    fn reads() -> impl Iterator<Item = LogName> {
        (0..3).map(|id| ("orders".to_owned(), id))
    }

    /// A survey in which these partitions answer. Returns which ones it asks about.
    fn survey(suspects: &mut Suspects, answer: &[i32]) -> Vec<i32> {
        suspects.begin(reads());
        let mut asked = suspects.of("orders");
        asked.sort_unstable();
        let ends = |id: i32| match answer.contains(&id) {
            true => Ok(LogEnds { low: 0, high: 9, at: None }),
            false => Err(RDKafkaErrorCode::OperationTimedOut),
        };
        suspects.clear(&asked.iter().map(|id| (("orders".to_owned(), *id), ends(*id))).collect());
        suspects.put_back();
        asked
    }

    #[test]
    fn each_partition_is_compared_once_after_a_loss() {
        let mut suspects = Suspects::default();
        assert!(survey(&mut suspects, &[]).is_empty());
        suspects.add_all();
        assert_eq!(survey(&mut suspects, &[0, 2]), [0, 1, 2]);
        assert_eq!(survey(&mut suspects, &[0, 2]), [1], "the others have been compared");
        assert_eq!(survey(&mut suspects, &[1]), [1]);
        assert!(survey(&mut suspects, &[]).is_empty());
        assert!(suspects.of("refunds").is_empty());
    }

    #[test]
    fn a_loss_during_a_survey_counts_in_the_next_one() {
        let mut suspects = Suspects::default();
        suspects.add_all();
        suspects.begin(reads());
        suspects.add_all();
        // The survey has failed, or was cancelled.
        suspects.put_back();
        assert_eq!(survey(&mut suspects, &[0, 1, 2]), [0, 1, 2]);
        assert!(survey(&mut suspects, &[]).is_empty());
    }
}
