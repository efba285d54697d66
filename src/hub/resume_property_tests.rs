//! Random logs: no client misses an event or receives one twice.

use proptest::prelude::*;

use super::*;

proptest! {
    /// A client that is disconnected at any event and resumes with its full cursor, on this replica or on one with
    /// another interleaving of partitions, receives every event once, or a gap for it.
    #[test]
    fn a_full_cursor_is_exact_everywhere(
        choices in prop::collection::vec((0..2usize, 0..PARTITIONS), 1..60),
        order in prop::collection::vec(any::<u32>(), 60),
        cut in any::<prop::sample::Index>(),
        window in 1..80usize,
    ) {
        let stream = stream(1, &TOPICS);
        let entries = log(&choices);
        let cut = cut.index(entries.len());
        let mut here = hub(window);
        let mut cursor = String::new();
        for (n, entry) in entries.iter().enumerate() {
            here.append(entry);
            if n == cut {
                cursor = here.cursor_at(&stream, &last_id(entry)).to_string();
            }
        }
        // Another replica interleaves the same partitions differently.
        let mut there = hub(window);
        let mut queues: Vec<Vec<&Entry>> = vec![Vec::new(); 2 * PARTITIONS];
        for (entry, (topic, partition)) in entries.iter().zip(&choices).rev() {
            queues[topic * PARTITIONS + partition].push(entry);
        }
        let mut order = order.into_iter().cycle();
        while queues.iter().any(|queue| !queue.is_empty()) {
            let at = order.next().unwrap() as usize % queues.len();
            let at = (0..queues.len()).map(|n| (at + n) % queues.len()).find(|n| !queues[*n].is_empty()).unwrap();
            there.append(queues[at].pop().unwrap());
        }
        for hub in [&here, &there] {
            let plan = plan(hub, &stream, &cursor);
            let lost = lost(&plan.gaps);
            let mut got = ids(hub, &stream, plan);
            got.extend(lost);
            got.sort();
            let mut expected: Vec<String> =
                entries[cut + 1..].iter().map(|e| last_id(e).to_string()).collect();
            expected.sort();
            prop_assert_eq!(got, expected);
        }
    }

    /// With a log behind windows of any size, and while events arrive: every event is received once, in order per
    /// partition. Only events that the log lost are reported as missing.
    #[test]
    fn the_log_and_the_window_join_without_gap_or_duplicate(
        choices in prop::collection::vec((0..2usize, 0..PARTITIONS), 1..60),
        live in prop::collection::vec((0..2usize, 0..PARTITIONS), 0..40),
        cut in any::<prop::sample::Index>(),
        (window, page_entries, low) in (1..20usize, 1..6usize, 0..4i64),
        has_id_only in any::<bool>(),
    ) {
        let stream = stream(1, &TOPICS);
        let entries = log(&[choices.clone(), live].concat());
        let cut = cut.index(choices.len());
        let mut hub = hub(window);
        let mut cursor = String::new();
        for (n, entry) in entries[..choices.len()].iter().enumerate() {
            hub.append(entry);
            if n == cut {
                cursor = hub.cursor_at(&stream, &last_id(entry)).to_string();
            }
        }
        let fake_log = FakeLog { low, ..FakeLog::new(entries.clone(), page_entries) };
        let plan = hub.plan(&stream, &cursor.parse().unwrap(), &fake_log.limits);
        prop_assert!(plan.gaps.is_empty());
        let mut rest = entries[choices.len()..].iter();
        let got = replay_all(&mut hub, &stream, plan, &fake_log, |hub| {
            rest.next().map(|entry| hub.append(entry));
        });
        let appended = entries.len() - rest.len();
        let mut sorted = got.clone();
        sorted.sort();
        let mut expected: Vec<String> = entries[cut + 1..appended].iter().map(|e| last_id(e).to_string()).collect();
        expected.sort();
        prop_assert_eq!(&sorted, &expected);
        for n in 0..2 * PARTITIONS {
            let of = format!("{}:{}:", TOPICS[n / PARTITIONS], n % PARTITIONS);
            let offsets: Vec<i64> = got.iter().filter_map(|id| id.strip_prefix(&of)?.parse().ok()).collect();
            prop_assert!(offsets.is_sorted());
        }
        if has_id_only {
            // A bare id from before the window whose time is known: at least everything after it.
            let id = last_id(&entries[cut]);
            let stopped = hub.next_seq();
            let times: Vec<Arc<[i64]>> = TOPICS.iter().map(|_| Arc::from([0; PARTITIONS])).collect();
            let ends = hub.positions(&stream);
            let start = TimeStart { ms: 0, offsets: &times, ends: &ends, id: Some(&id) };
            let plan = hub.plan_at(&stream, &start, &fake_log.limits);
            let got: std::collections::HashSet<_> = replay_all(&mut hub, &stream, plan, &fake_log, |_| {}).into_iter().collect();
            prop_assert_eq!(hub.next_seq(), stopped);
            for entry in &entries[cut + 1..appended] {
                prop_assert!(got.contains(&last_id(entry).to_string()));
            }
        }
    }

    /// A bare id of a live event resumes exactly on the replica that sent it, and at least once on a replica that did
    /// not.
    #[test]
    fn a_bare_id_is_exact_on_the_same_replica(
        choices in prop::collection::vec((0..2usize, 0..PARTITIONS), 1..60),
        cut in any::<prop::sample::Index>(),
    ) {
        let stream = stream(1, &TOPICS);
        let entries = log(&choices);
        let mut hub = hub(100);
        let mut elsewhere = self::hub(100);
        entries.iter().for_each(|entry| { elsewhere.append(entry); });
        let cut = cut.index(entries.len());
        let again = resume(&elsewhere, &stream, &last_id(&entries[cut]).to_string()).1;
        let own = place(&entries[cut]);
        for (n, entry) in entries.iter().enumerate() {
            let is_seen = n <= cut && (place(entry).0, place(entry).1) == (own.0, own.1);
            prop_assert!(is_seen || again.contains(&last_id(entry).to_string()));
        }
        entries.iter().for_each(|entry| send(&mut hub, &stream, entry));
        let id = last_id(&entries[cut]).to_string();
        let expected: Vec<String> =
            entries[cut + 1..].iter().map(|e| last_id(e).to_string()).collect();
        prop_assert_eq!(resume(&hub, &stream, &id), (vec![], expected));
    }
}
