use proptest::prelude::*;

use super::*;

fn topics(names: &[&str]) -> Vec<Topic> {
    names.iter().map(|name| Topic::from(*name)).collect()
}

fn positions(next: &[&[i64]]) -> Positions {
    of_epoch(7, next)
}

fn of_epoch(epoch: Epoch, next: &[&[i64]]) -> Positions {
    Positions(next.iter().map(|next| TopicPosition { epoch, next: next.to_vec() }).collect())
}

#[test]
fn moving_back_never_advances_a_position() {
    let mut from = positions(&[&[5, 9], &[3]]);
    from.go_back(&positions(&[&[7, 4], &[3]]));
    assert_eq!(from, positions(&[&[5, 4], &[3]]));
    from.go_back(&of_epoch(8, &[&[0, 6], &[1]]));
    assert_eq!(from, of_epoch(8, &[&[0, 6], &[1]]), "another log has positions of its own");
}

#[test]
fn no_offset_of_a_recreated_topic_has_been_passed() {
    let mut from = positions(&[&[5, 9]]);
    from.start_over(&positions(&[&[7, 12]]));
    assert_eq!(from, positions(&[&[5, 9]]), "the same log");
    from.start_over(&of_epoch(8, &[&[7, 12, 1]]));
    assert_eq!(from, of_epoch(8, &[&[0, 0, 0]]));
}

#[test]
fn a_single_partition_needs_no_opaque_part() {
    let positions = positions(&[&[8]]);
    let id: EventId = "orders:0:7".parse().unwrap();
    assert_eq!(positions.cursor(&topics(&["orders"]), id).to_string(), "orders:0:7");
}

#[test]
fn a_position_behind_offsets_without_records_is_kept() {
    let positions = positions(&[&[9]]);
    let cursor = positions.cursor(&topics(&["orders"]), "orders:0:7".parse().unwrap());
    let opaque = cursor.opaque.as_deref().and_then(|opaque| Positions::decode(opaque, &topics(&["orders"])));
    assert_eq!(opaque, Some(positions));
}

#[test]
fn a_partition_that_was_not_read_has_a_time() {
    let unread = unread_since(1_737_000_123_456);
    let cursor = positions(&[&[7, unread], &[unread]]).cursor(&topics(&["a", "b"]), "a:0:6".parse().unwrap());
    let opaque = cursor.opaque.as_deref().unwrap();
    assert_eq!(Positions::decode(opaque, &topics(&["a", "b"])), Some(positions(&[&[7, unread], &[unread]])));
    // Cursors of offsets are as they were before there were times.
    let offsets = positions(&[&[7, 3]]).encode(&topics(&["a"]));
    assert_eq!(URL_SAFE_NO_PAD.decode(&*offsets).unwrap()[0], 1);
    // A time that no process names.
    let forged = positions(&[&[unread_since(UNREAD_SINCE_MS_MAX)]]).encode(&topics(&["a"]));
    let mut bytes = URL_SAFE_NO_PAD.decode(&*forged).unwrap();
    *bytes.last_mut().unwrap() = 0x7f;
    assert_eq!(Positions::decode(&URL_SAFE_NO_PAD.encode(bytes), &topics(&["a"])), None);
}

#[test]
fn an_opaque_part_of_other_topics_means_nothing() {
    let opaque = positions(&[&[1, 2]]).encode(&topics(&["orders"]));
    assert_eq!(Positions::decode(&opaque, &topics(&["orders"])), Some(positions(&[&[1, 2]])));
    assert_eq!(Positions::decode(&opaque, &topics(&["refunds"])), None);
}

#[test]
fn invalid_cursors_are_rejected() {
    for text in ["", "orders", "orders:0", "orders:0:x", "orders:-1:5", "o:0:1:2", "o r:0:1", "o:0:1~a/b", "o:0:-2"] {
        assert!(text.parse::<Cursor>().is_err(), "{text}");
    }
    assert!("o:0:9223372036854775807".parse::<Cursor>().is_err());
    assert!(format!("o:0:1~{}", "A".repeat(CURSOR_BYTES_MAX)).parse::<Cursor>().is_err());
}

/// The table in docs/protocol.md.
#[test]
fn a_cursor_is_as_long_as_its_partitions_make_it() {
    let length = |partitions: usize| {
        let positions = Positions(vec![TopicPosition { epoch: u32::MAX, next: vec![1_000_000; partitions] }]);
        positions.cursor(&topics(&["orders"]), "orders:0:999999".parse().unwrap()).to_string().len()
    };
    assert_eq!([1, 12, 64, 1000, 3700].map(length), [15, 79, 287, 4032, 14832]);
}

#[test]
fn every_cursor_that_is_sent_is_accepted() {
    let name = "t".repeat(TOPIC_NAME_BYTES_MAX);
    let topics = topics(&[&name]);
    let long = EventId { topic: topics[0].clone(), partition: i32::MAX, offset: i64::MAX - 1 };
    let given = |partitions: usize| {
        let next = vec![i64::MAX - 1; partitions];
        let positions = Positions(vec![TopicPosition { epoch: u32::MAX, next }]);
        let cursor = positions.cursor(&topics, long.clone());
        assert_eq!(cursor.to_string().parse::<Cursor>().unwrap(), cursor, "{partitions} partitions");
        assert_eq!(cursor.opaque.is_some(), positions.fit(&topics), "{partitions} partitions");
        cursor.opaque.is_some()
    };
    let fitting = (2..2_000).filter(|partitions| given(*partitions)).max().unwrap();
    assert!(fitting > 1_200, "{fitting} partitions with the largest offsets there are");
    assert!(!given(fitting + 1) && !given(9_999));
}

fn position() -> impl Strategy<Value = i64> {
    prop_oneof![0..i64::MAX, (1..=UNREAD_SINCE_MS_MAX).prop_map(unread_since)]
}

proptest! {
    #[test]
    fn a_cursor_round_trips_through_its_text(
        parts in prop::collection::vec((any::<Epoch>(), prop::collection::vec(position(), 1..9)), 1..4),
    ) {
        let names: Vec<String> = (0..parts.len()).map(|n| format!("topic-{n}")).collect();
        let topics: Vec<Topic> = names.iter().map(|n| n.as_str().into()).collect();
        let positions = parts.into_iter().map(|(epoch, next)| TopicPosition { epoch, next });
        let positions = Positions(positions.collect());
        let id = EventId { topic: topics[0].clone(), partition: 0, offset: 5 };
        let cursor = positions.cursor(&topics, id);
        let text = cursor.to_string();
        prop_assert!(text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._:~-".contains(&b)));
        prop_assert_eq!(&text.parse::<Cursor>().unwrap(), &cursor);
        if let Some(opaque) = &cursor.opaque {
            prop_assert_eq!(Positions::decode(opaque, &topics), Some(positions));
        }
    }

    #[test]
    fn decoding_never_panics(text in "[A-Za-z0-9_-]{0,64}") {
        let _ = Positions::decode(&text, &topics(&["orders"]));
    }
}
