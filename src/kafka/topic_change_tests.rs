//! What a topic, its logs or its brokers turn out to be.

use super::*;

#[test]
fn a_log_that_ends_before_the_position_is_another_log() {
    let mut topic = live(&[(0, 50)]);
    take(&mut topic, 0, 49);
    let change = survey_lost(&mut topic, &[(0, 30)], None);
    assert_eq!((gaps(&change), change.assign), (vec![], Assign::Again), "the leader may be outdated");
    let change = survey_lost(&mut topic, &[(0, 30)], None);
    assert_eq!((gaps(&change), change.assign), (vec![(GapCause::Truncated, 0, 30, 49)], Assign::OnNewClient));
    assert_eq!((announced(change.announcement), next(&topic)), (None, vec![30]), "what is there was read already");
    assert_eq!([29, 30].map(|offset| take(&mut topic, 0, offset)), [0, 1]);
}

#[test]
fn a_partition_that_went_on_since_its_log_was_asked_for_is_sound() {
    let mut topic = live(&[(0, 5)]);
    let described = Described { epoch: EPOCH, partitions: 1 };
    let was = next(&topic);
    (5..9).for_each(|offset| assert_eq!(take(&mut topic, 0, offset), 1));
    let change = topic
        .take_in(&Seen { described, logs: vec![(0, ends(0, 6))], unanswered: None, was, at_ms: LIVE_MS }, |_| None);
    assert_eq!((gaps(&change), next(&topic)), (vec![], vec![9]));
}

#[test]
fn a_position_lost_while_warming_is_nobodys_gap() {
    let mut topic = reader(&[(0, 5)]);
    assert!(gaps(&survey_lost(&mut topic, &[(2, 9)], None)).is_empty());
    let (feed, ..) = topic.finish_warm_up(LIVE_MS).unwrap();
    assert_eq!(announced(Some(feed)), Some((EPOCH, vec![2])));
    let mut topic = reader(&[(0, 5)]);
    take(&mut topic, 0, 4);
    survey_lost(&mut topic, &[(0, 3)], None);
    let change = survey_lost(&mut topic, &[(0, 3)], None);
    assert_eq!((gaps(&change), change.assign, next(&topic)), (vec![], Assign::OnNewClient, vec![0]));
    assert!(topic.is_warming());
}

#[test]
fn a_recreated_topic_is_read_from_its_first_record() {
    let mut topic = live(&[(0, 5), (0, 5)]);
    take(&mut topic, 0, 4);
    // Longer than what was read of the old one, with fewer partitions.
    let change = survey(&mut topic, RECREATED, &[(3, 100)]);
    assert_eq!((gaps(&change), change.assign), (vec![], Assign::OnNewClient), "the epoch shows what is lost");
    assert_eq!(announced(change.announcement), Some((RECREATED, vec![0])));
    assert_eq!(take(&mut topic, 0, 3), 1);
    let stale = survey(&mut topic, EPOCH, &[(0, 5), (0, 5)]);
    assert_eq!((stale.assign, next(&topic)), (Assign::AsItIs, vec![4]), "UUIDs do not come back");
}

#[test]
fn a_topic_recreated_during_the_warm_up_is_not_announced() {
    let mut topic = reader(&[(0, 5)]);
    take(&mut topic, 0, 4);
    let change = survey(&mut topic, RECREATED, &[(0, 100)]);
    assert_eq!((change.assign, announced(change.announcement)), (Assign::OnNewClient, None));
    let (feed, ..) = topic.finish_warm_up(LIVE_MS).unwrap();
    assert_eq!(announced(Some(feed)), Some((RECREATED, vec![90])));
}

#[test]
fn without_epochs_only_positions_and_partitions_tell() {
    let mut topic = absent();
    survey(&mut topic, 0, &[(0, 5), (0, 5)]);
    topic.finish_warm_up(LIVE_MS).unwrap();
    (0..5).for_each(|offset| assert_eq!(take(&mut topic, 1, offset), 1));
    assert_eq!(survey(&mut topic, 0, &[(0, 100), (0, 100)]).assign, Assign::AsItIs);
    let change = survey(&mut topic, 0, &[(0, 100)]);
    assert_eq!(gaps(&change), [(GapCause::Truncated, 1, 0, 4)]);
    assert_eq!(announced(change.announcement), Some((0, vec![0])));
    let known = survey(&mut topic, EPOCH, &[(0, 100)]);
    assert_eq!((known.assign, announced(known.announcement)), (Assign::AsItIs, Some((EPOCH, vec![0]))));
}

#[test]
fn a_position_that_was_lost_is_compared_where_its_leader_answers() {
    let mut topic = live(&[(0, 5), (0, 5)]);
    let change = look_at(&mut topic, EPOCH, &[None, Some(ends(7, 9))], true, None);
    assert_eq!((gaps(&change), next(&topic)), (vec![(GapCause::Retention, 1, 0, 6)], vec![0, 7]));
}

/// An outdated leader responds to one survey.
#[test]
fn one_answer_that_contradicts_what_was_read_is_no_loss() {
    let mut topic = live(&[(0, 50)]);
    take(&mut topic, 0, 49);
    for _ in 0..3 {
        let change = survey_lost(&mut topic, &[(0, 30)], None);
        assert_eq!((gaps(&change), change.assign, next(&topic)), (vec![], Assign::Again, vec![50]));
        let change = survey_lost(&mut topic, &[(0, 50)], None);
        assert_eq!((gaps(&change), next(&topic)), (vec![], vec![50]));
    }
}

#[test]
fn a_recreated_topic_is_read_although_a_leader_is_silent() {
    let mut topic = live(&[(0, 5), (0, 5)]);
    let change = look_at(&mut topic, RECREATED, &[None, Some(ends(0, 9))], false, None);
    assert_eq!(change.assign, Assign::OnNewClient);
    assert_eq!(announced(change.announcement), Some((RECREATED, vec![UNKNOWN_POSITION, 0])));
    let change = look_at(&mut topic, RECREATED, &[Some(ends(2, 4)), None], false, None);
    assert_eq!(announced(change.announcement), Some((RECREATED, vec![0, 0])), "from the first record");
    assert_eq!(change.assign, Assign::Again);
}

#[test]
fn without_epochs_a_smaller_topic_is_read_once_all_leaders_answer() {
    let mut topic = absent();
    survey(&mut topic, 0, &[(0, 5), (0, 5), (0, 5)]);
    topic.finish_warm_up(LIVE_MS).unwrap();
    assert_eq!(look_at(&mut topic, 0, &[None, Some(ends(0, 9))], false, None).assign, Assign::AsItIs);
    assert_eq!(next(&topic).len(), 3);
}

#[test]
fn no_deleted_predecessor_comes_back() {
    let mut topic = live(&[(0, 5)]);
    for epoch in RECREATED..RECREATED + 3 {
        assert_eq!(survey(&mut topic, epoch, &[(0, 1)]).assign, Assign::OnNewClient);
    }
    for epoch in [EPOCH, RECREATED, RECREATED + 1] {
        let stale = survey(&mut topic, epoch, &[(0, 5), (0, 5)]);
        assert_eq!((stale.assign, next(&topic)), (Assign::AsItIs, vec![0]));
        let described = Described { epoch, partitions: 2 };
        assert!(topic.is_outdated(&described) && topic.wanted(&described, &[0]).is_empty());
    }
}
