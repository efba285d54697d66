//! Answers that a log ends before what was read or requested of it. An outdated leader may give one, so that several in
//! a row are needed.

/// How many answers in a row confirm it.
const SHORT_ANSWERS: u8 = 2;

/// The answers of this kind about a partition, in a row. At most [`SHORT_ANSWERS`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct ShortAnswers(u8);

impl ShortAnswers {
    /// Counts an answer. Returns whether it confirms the end of the log; then counting begins again.
    pub(super) fn confirm(&mut self, is_short: bool) -> bool {
        self.0 = if is_short { self.0 + 1 } else { 0 };
        let is_confirmed = self.0 >= SHORT_ANSWERS;
        if is_confirmed {
            self.0 = 0;
        }
        is_confirmed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_in_a_row_confirm_each_end() {
        let mut answers = ShortAnswers::default();
        let confirmed = [true, false, true, true, true, true, false].map(|is_short| answers.confirm(is_short));
        assert_eq!(confirmed, [false, false, false, true, false, true, false]);
    }
}
