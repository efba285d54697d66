//! A part of a state as JSON: what a client may receive of it, in the order of the keys.

use std::sync::Arc;

use serde_json::json;

use crate::admission::Rights;
use crate::codec::json as texts;
use crate::event::Event;
use crate::hub::Cut;
use crate::route::StreamRoute;
use crate::rule::Judge;

/// The bytes of elements after which a page takes no more: with its head, a response stays below what the listener
/// counts for a client that does not read.
const PAGE_BYTES_MAX: usize = 512 << 10;
/// The most keys that are looked at for a page of a client that may not receive all of them. Its page may be shorter than
/// it asked for, and continues after the last one.
pub(super) const SCANNED_MAX: usize = 20_000;

/// What a client may receive of a state.
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    pub(super) route: &'a StreamRoute,
    pub(super) rights: &'a Rights,
    pub(super) judge: &'a Judge,
}

/// The elements of a page.
#[derive(Debug, Default)]
pub(super) struct Page {
    elements: Vec<u8>,
    count: usize,
    /// The last key that was looked at.
    pub(super) last: Option<Arc<str>>,
    /// Whether there may be elements after it.
    pub(super) has_more: bool,
    /// The elements that the client may receive, of this page and all others. `None` if they were not counted.
    total: Option<usize>,
    /// Events that cannot be shown.
    unreadable: u64,
}

/// The numbers of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Range {
    /// The elements before it.
    pub(super) skip: usize,
    pub(super) size: usize,
}

/// The page is beyond the keys that are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this page is not among the first {SCANNED_MAX} keys: follow `next` from the page before it")]
pub(super) struct TooFar;

impl View<'_> {
    /// The JSON of an element, if the client may receive it.
    pub(super) fn element(self, event: &Arc<Event>) -> Option<Vec<u8>> {
        self.allows(event).then(|| self.shown(event)).flatten()
    }

    fn allows(self, event: &Arc<Event>) -> bool {
        self.rights.selector.matches(event) && self.judge.allows(self.rights.rule.as_ref(), event)
    }

    /// Its shown fields. `None` if they cannot be determined.
    fn shown(self, event: &Event) -> Option<Vec<u8>> {
        let text = |event: &Event| texts::body(event, self.route.data).to_vec();
        match self.route.fields.as_deref() {
            Some(fields) => fields.of(event).as_ref().map(text),
            None => Some(text(event)),
        }
    }

    /// The page after a key, or from the start.
    ///
    /// # Errors
    ///
    /// Its elements are not among the first keys that are looked at.
    pub(super) fn page(self, cut: &Cut, after: Option<&Arc<str>>, range: Range) -> Result<Page, TooFar> {
        let key = self.route.stream.state.as_ref().map(|state| &state.key);
        let only = key.and_then(|key| self.rights.selector.values(key));
        let is_everything = self.rights.selector.0.is_empty() && self.rights.rule.is_none();
        let (mut page, mut last, mut passed, mut is_counted) = (Page::default(), after, 0, after.is_none());
        for (scanned, (key, event)) in cut.after(after, only).enumerate() {
            let is_full = page.is_full(range);
            let is_over = if is_everything { is_full } else { scanned >= SCANNED_MAX };
            if is_over {
                (page.has_more, is_counted) = (true, false);
                break;
            }
            let is_allowed = is_everything || self.allows(event);
            passed += usize::from(is_allowed);
            if is_full {
                page.has_more |= is_allowed;
                continue;
            }
            last = Some(key);
            if is_allowed && passed > range.skip {
                page.put(self.shown(event));
            }
        }
        if passed < range.skip && page.has_more {
            return Err(TooFar);
        }
        let total = if is_everything { Some(cut.len()) } else { is_counted.then_some(passed) };
        Ok(Page { last: last.cloned(), total, ..page })
    }
}

impl Page {
    fn is_full(&self, range: Range) -> bool {
        self.count >= range.size || self.elements.len() >= PAGE_BYTES_MAX
    }

    fn put(&mut self, element: Option<Vec<u8>>) {
        let Some(element) = element else {
            self.unreadable += 1;
            return;
        };
        if self.count > 0 {
            self.elements.push(b',');
        }
        self.elements.extend_from_slice(&element);
        self.count += 1;
    }

    /// The document. `number` is the page's, if the client asked by number.
    pub(super) fn document(&self, number: Option<usize>, size: usize, unreadable: u64, cursor: &str) -> Vec<u8> {
        let mut pagination = json!({ "size": size });
        if let Some(number) = number {
            pagination["page"] = number.into();
        }
        if let Some(total) = self.total {
            pagination["totalElements"] = total.into();
        }
        let mut meta = json!({ "pagination": pagination, "cursor": cursor });
        let unreadable = unreadable + self.unreadable;
        if unreadable > 0 {
            meta["unreadable"] = unreadable.into();
        }
        let meta = texts::text(&meta);
        [br#"{"data":["#, &*self.elements, br#"],"meta":"#, &meta, b"}"].concat()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use serde_json::Value;

    use super::*;
    use crate::event::{Assigned, Entry, Feed};
    use crate::hub::{Table, TableConfig};
    use crate::testing::{event, route, selector};

    /// A state of this many keys, `k00000` and on, each with the key `half`: `a` or `b`.
    fn cut(keys: usize) -> Arc<Cut> {
        let table = Table::new(TableConfig { topic: "t".into(), key: "k".into(), deletes: [].into(), bytes: 1 << 30 });
        table.feed(&Feed::Assigned(Assigned::new("t", 1, [0])), Instant::now());
        let one = |n: usize| {
            let half = if n.is_multiple_of(2) { "a" } else { "b" };
            Entry::Event(event("t", 0, n as i64, &[("half", half), ("k", &format!("k{n:05}"))]))
        };
        table.feed(&Feed::Batch((0..keys).map(one).collect()), Instant::now());
        table.feed(&Feed::Live { topics: ["t".into()].into() }, Instant::now());
        table.current().unwrap()
    }

    fn page(cut: &Cut, rights: &Rights, after: Option<&str>, skip: usize, size: usize) -> Result<Page, TooFar> {
        let (route, judge) = (route("/t"), Judge::default());
        let view = View { route: &route, rights, judge: &judge };
        view.page(cut, after.map(Arc::from).as_ref(), Range { skip, size })
    }

    fn of_half(half: &str) -> Rights {
        Rights { selector: selector(&[("half", half)]), rule: None }
    }

    fn shown(page: &Page) -> (usize, Option<usize>, bool, Option<&str>) {
        (page.count, page.total, page.has_more, page.last.as_deref())
    }

    #[test]
    fn pages_contain_every_element_once_and_count_all() {
        let (cut, all) = (cut(5), Rights::default());
        let of = |after, skip, size| page(&cut, &all, after, skip, size).unwrap();
        assert_eq!(shown(&of(None, 0, 2)), (2, Some(5), true, Some("k00001")));
        assert_eq!(shown(&of(None, 4, 2)), (1, Some(5), false, Some("k00004")));
        assert_eq!(shown(&of(None, 6, 2)), (0, Some(5), false, Some("k00004")), "beyond the last one");
        assert_eq!(shown(&of(Some("k00001"), 0, 2)), (2, Some(5), true, Some("k00003")));
        assert_eq!(shown(&of(Some("k00003"), 0, 1)), (1, Some(5), false, Some("k00004")), "the last one");
        let document: Value = serde_json::from_slice(&of(None, 2, 2).document(Some(1), 2, 3, "c")).unwrap();
        assert_eq!((&document["data"][1]["k"], document["data"].as_array().unwrap().len()), (&"k00003".into(), 2));
        let pagination = serde_json::json!({ "page": 1, "size": 2, "totalElements": 5 });
        assert_eq!(document["meta"], serde_json::json!({ "pagination": pagination, "cursor": "c", "unreadable": 3 }));
    }

    #[test]
    fn a_page_has_what_its_client_may_receive() {
        let cut = cut(5);
        let of = |skip, size| page(&cut, &of_half("a"), None, skip, size).unwrap();
        assert_eq!(shown(&of(0, 2)), (2, Some(3), true, Some("k00002")));
        assert_eq!(shown(&of(2, 2)), (1, Some(3), false, Some("k00004")));
        assert_eq!(shown(&page(&cut, &of_half("b"), None, 0, 2).unwrap()), (2, Some(2), false, Some("k00003")));
        assert_eq!(shown(&page(&cut, &of_half("c"), None, 0, 2).unwrap()).1, Some(0));
    }

    #[test]
    fn the_work_and_the_bytes_of_a_page_are_bounded() {
        let cut = cut(SCANNED_MAX + 10);
        let none = page(&cut, &of_half("c"), None, 0, 2).unwrap();
        assert_eq!((none.count, none.total, none.has_more), (0, None, true));
        assert_eq!(none.last.as_deref(), Some(&*format!("k{:05}", SCANNED_MAX - 1)));
        let rest = page(&cut, &of_half("c"), none.last.as_deref(), 0, 2).unwrap();
        assert_eq!((rest.total, rest.has_more), (None, false), "only the rest was counted");
        assert_eq!(page(&cut, &of_half("a"), None, SCANNED_MAX, 2).unwrap_err(), TooFar);
        let all = page(&cut, &Rights::default(), None, 0, usize::MAX).unwrap();
        assert!(all.has_more && (PAGE_BYTES_MAX..PAGE_BYTES_MAX + 1024).contains(&all.elements.len()));
    }
}
