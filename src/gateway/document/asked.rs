//! What a request for a document asks for: an element, or a page, under which condition, and how long it waits.

use std::time::Duration;

use http::HeaderMap;
use http::header::IF_NONE_MATCH;

use crate::access::Selector;
use crate::cursor::{Cursor, Positions, SnapshotCursor, TopicPosition};
use crate::event::Topic;
use crate::gateway::query::{self, Parameter, Query};
use crate::route::StreamRoute;

/// `size`, if it is absent.
const SIZE: usize = 20;
/// The most elements of a page.
const SIZE_MAX: usize = 1000;
/// The most elements before a page that is asked for by its number. Those of a client that follows `next` have no limit.
const SKIPPED_MAX: usize = 100_000;
/// The longest time that a request waits for a change.
const WAIT_MAX: Duration = Duration::from_secs(60);
/// The most entity tags of one condition that are compared.
const TAGS_MAX: usize = 16;

/// The part of a state that is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// The value of a key.
    Element(Box<str>),
    /// `number` counts from 0.
    Numbered { number: usize, size: usize },
    /// The page after another one of the same cut.
    After { cursor: SnapshotCursor, size: usize },
}

impl Asked {
    /// A route that binds the state's key to its path has one element. The error is a message for the client.
    pub(super) fn parse(
        route: &StreamRoute,
        selector: &Selector,
        raw: &str,
        query: &Query<'_>,
    ) -> Result<Self, &'static str> {
        let number = |name| query::single(raw, name).map(|text| text.parse::<usize>().map_err(drop)).transpose();
        let page = number("page").map_err(|()| "`page` is the number of a page, from 0")?;
        let size = number("size").ok().filter(|size| size.is_none_or(|size| (1..=SIZE_MAX).contains(&size)));
        let size = size.ok_or("`size` is the number of elements of a page, 1 to 1000")?;
        let since = query.single(Parameter::Since);
        if let Some(key) = element(route, selector) {
            let is_plain = page.is_none() && size.is_none() && since.is_none();
            return is_plain.then(|| Self::Element(key.into())).ok_or("this path is one element, without pages");
        }
        let size = size.unwrap_or(SIZE);
        match (page, since) {
            (Some(_), Some(_)) => Err("`since` continues after a page: leave out `page`"),
            (None, Some(text)) => {
                let cursor = text.parse().map_err(|_| {
                    "`since` of a page is the cursor of the page before it; for the changes after a cursor accept a \
                     stream, such as application/x-ndjson"
                })?;
                Ok(Self::After { cursor, size })
            }
            (page, None) => {
                let number = page.unwrap_or(0);
                let is_near = number.checked_mul(size).is_some_and(|skipped| skipped <= SKIPPED_MAX);
                is_near.then_some(Self::Numbered { number, size }).ok_or("this page is too far: follow `next`")
            }
        }
    }
}

/// The one value of the state's key, if the path names it.
fn element<'a>(route: &StreamRoute, selector: &'a Selector) -> Option<&'a str> {
    let key = &route.stream.state.as_ref()?.key;
    let binding = route.bindings.iter().find(|binding| binding.key == *key)?;
    let [value] = selector.values(key)? else { return None };
    binding.parameter().map(|_| &**value)
}

/// Whether a request asks for pages by its parameters.
pub(super) fn is_paged(raw: &str) -> bool {
    ["page", "size"].iter().any(|name| query::single(raw, name).is_some())
}

/// The positions of which a client has the document in this form, by `If-None-Match`: entity tags are cursors with the
/// form at the end.
pub(super) fn known(headers: &HeaderMap, topic: &Topic, form: &str) -> Vec<TopicPosition> {
    let lines = headers.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    let tags = lines.flat_map(|line| line.split(',')).map(str::trim).take(TAGS_MAX);
    let position = |tag: &str| {
        let tag = tag.strip_prefix("W/").unwrap_or(tag);
        let cursor: Cursor = tag.strip_prefix('"')?.strip_suffix('"')?.strip_suffix(form)?.parse().ok()?;
        Positions::decode(cursor.opaque.as_deref()?, std::slice::from_ref(topic))?.0.pop()
    };
    tags.filter_map(position).collect()
}

/// How long the client wants to wait for a change, by `Prefer: wait=30` (RFC 7240 section 4.3).
pub(super) fn wait(headers: &HeaderMap) -> Option<Duration> {
    let lines = headers.get_all("prefer").iter().filter_map(|value| value.to_str().ok());
    let mut preferences = lines.flat_map(|line| line.split([',', ';']));
    let seconds = preferences.find_map(|preference| {
        let (name, value) = preference.split_once('=')?;
        let is_it = name.trim().eq_ignore_ascii_case("wait");
        is_it.then(|| value.trim().trim_matches('"').parse::<u32>().ok()).flatten()
    })?;
    Some(Duration::from_secs(seconds.into()).min(WAIT_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::{Binding, Rule, Source};
    use crate::cursor::EncodedCut;
    use crate::route::{State, Stream};
    use crate::testing::{route, selector};

    fn orders(bindings: &[Binding]) -> StreamRoute {
        let state = Some(State { key: "orderId".into(), bytes: 1 << 20 });
        let stream = Stream {
            id: 1,
            name: "orders".into(),
            topics: ["orders".into()].into(),
            keys: ["orderId".into()].into(),
            state,
        };
        StreamRoute { stream: stream.into(), bindings: bindings.into(), ..route("/orders") }
    }

    fn parse(route: &StreamRoute, selector: &Selector, query: &str) -> Result<Asked, &'static str> {
        Asked::parse(route, selector, query, &Query::parse(query))
    }

    #[test]
    fn pages_are_asked_for() {
        let (route, all) = (orders(&[]), Selector::default());
        let numbered = |number, size| Ok(Asked::Numbered { number, size });
        assert_eq!(parse(&route, &all, ""), numbered(0, 20));
        assert_eq!(parse(&route, &all, "page=2&size=1000"), numbered(2, 1000));
        let cut = EncodedCut::new(&TopicPosition { epoch: 7, next: vec![3] }, &"orders".into()).unwrap();
        let cursor = cut.cursor(&"orders:0:2".parse().unwrap(), Some("o-2"));
        let after = Asked::After { cursor: cursor.parse().unwrap(), size: 5 };
        assert_eq!(parse(&route, &all, &format!("since={cursor}&size=5")), Ok(after));
        for wrong in [
            "page=-1",
            "page=x",
            "page=",
            "page=1&page=2",
            "page=99999999999999999999",
            "page=18446744073709551615&size=2",
            "page=100001&size=1",
            "size=0",
            "size=1001",
            "size=1.5",
            "size=",
            "since=orders:0:2",
            "since=",
            "since=orders:0:1~.A&since=orders:0:1~.A",
            &format!("since={cursor}&page=1"),
        ] {
            assert!(parse(&route, &all, wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_path_that_names_the_key_is_one_element() {
        let bound = |source| Binding { key: "orderId".into(), sources: [source].into(), rule: Rule::Any };
        let one = selector(&[("orderId", "o-1")]);
        let by_path = orders(&[bound(Source::Path("id".into()))]);
        assert_eq!(parse(&by_path, &one, "a=b"), Ok(Asked::Element("o-1".into())));
        for wrong in ["page=0", "size=1", "since=x"] {
            assert!(parse(&by_path, &one, wrong).is_err(), "{wrong}");
        }
        let by_claim = orders(&[bound(Source::Claim(["sub".into()].into()))]);
        assert!(matches!(parse(&by_claim, &one, ""), Ok(Asked::Numbered { .. })), "a collection of one user");
    }

    #[test]
    fn entity_tags_are_cursors_and_others_are_not_known() {
        let (topic, position): (Topic, _) = ("orders".into(), TopicPosition { epoch: 7, next: vec![3, 9] });
        let tag = EncodedCut::new(&position, &topic).unwrap().end("orders:0:2".parse().unwrap()).to_string();
        let known = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(IF_NONE_MATCH, value.parse().unwrap());
            known(&headers, &topic, "")
        };
        assert_eq!(known(&format!("\"{tag}\"")), std::slice::from_ref(&position));
        assert_eq!(known(&format!("\"x\", W/\"{tag}\"")), [position]);
        for other in
            ["*", "\"", "\"orders:0:2\"", &format!("\"{tag};1\""), "\"orders:0:2~AQ\"", &tag, &format!("\"{tag}x\"")]
        {
            assert!(known(other).is_empty(), "{other}");
        }
        assert!(super::known(&HeaderMap::new(), &topic, "").is_empty());
        let many = vec!["\"x\""; TAGS_MAX].join(",");
        assert!(known(&format!("{many}, \"{tag}\"")).is_empty(), "there is a limit");
    }

    #[test]
    fn a_preference_is_the_time_to_wait() {
        let wait = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("prefer", value.parse().unwrap());
            wait(&headers).map(|wait| wait.as_secs())
        };
        assert_eq!((wait("wait=30"), wait("respond-async, Wait = \"7\"")), (Some(30), Some(7)));
        assert_eq!(wait("wait=4294967295"), Some(WAIT_MAX.as_secs()));
        for other in ["wait", "wait=", "wait=-1", "wait=x", "waits=3", ""] {
            assert_eq!(wait(other), None, "{other}");
        }
    }
}
