//! Content negotiation: matches the route's offer with `Accept` (RFC 9110 section 12.5.1) and `Upgrade`.

use crate::route::{Offer, Transport};

/// The content type of a transport whose responses have no body.
const NO_BODY: &str = "";
/// The content type of documents, which some transports have as well.
const DOCUMENT_TYPE: &str = "application/json";

/// The selected transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Agreed {
    pub transport: Transport,
    pub content_type: &'static str,
}

/// Why no transport was selected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Disagreed {
    /// 406, with the offered types.
    NotAcceptable(Vec<&'static str>),
    /// 400: no transport has the name in `framing`.
    UnknownFraming,
    /// 426: the route offers only WebSocket.
    UpgradeRequired,
}

/// Selects a transport: an upgrade if it is requested and offered, or else the response whose media type `Accept`
/// prefers.
///
/// A framing in the request overrides both: then `Accept` only selects among its media types, if it accepts any.
pub(super) fn negotiate(
    offer: Offer,
    framing: Option<&str>,
    accept: Option<&str>,
    asks_websocket: bool,
) -> Result<Agreed, Disagreed> {
    let framing = framing.map(|name| Transport::framing(name).ok_or(Disagreed::UnknownFraming)).transpose()?;
    let offered = || Transport::by_preference().filter(|transport| offer.has(*transport));
    if let Some(transport) = offered().find(|transport| framing.is_none() && asks_websocket && transport.is_upgrade()) {
        return Ok(Agreed { transport, content_type: NO_BODY });
    }
    let types = offered().filter(|transport| !transport.is_upgrade()).flat_map(|transport| {
        let types = transport.row().media_types().iter();
        types.map(move |content_type| Agreed { transport, content_type })
    });
    let types: Vec<_> = types.collect();
    let framed: Vec<_> = types.iter().copied().filter(|agreed| Some(agreed.transport) == framing).collect();
    let found = match framing {
        Some(_) => preferred(&framed, accept).or_else(|| framed.first().copied()),
        None => preferred(&types, accept),
    };
    match found {
        Some(agreed) => Ok(agreed),
        None if types.is_empty() => Err(Disagreed::UpgradeRequired),
        None => Err(Disagreed::NotAcceptable(types.iter().map(|agreed| agreed.content_type).collect())),
    }
}

/// Whether a JSON document is preferred to the streams of this offer; if it is asked for by parameters, whether it is
/// accepted. Media types that only streams have win over those that both have.
pub(super) fn prefers_document(offer: Offer, accept: Option<&str>, is_paged: bool) -> bool {
    let Some(accept) = accept.filter(|accept| !accept.trim().is_empty()) else { return is_paged };
    let document = rank(DOCUMENT_TYPE, accept);
    let offered = Transport::by_preference().filter(|transport| offer.has(*transport));
    let streams = offered.flat_map(|transport| transport.row().media_types()).filter(|it| **it != DOCUMENT_TYPE);
    document.0 > 0 && (is_paged || streams.map(|it| rank(it, accept)).all(|stream| stream < document))
}

/// The acceptable type with the highest quality, then with the most specific range, then the first in our order.
fn preferred(types: &[Agreed], accept: Option<&str>) -> Option<Agreed> {
    let Some(accept) = accept.filter(|accept| !accept.trim().is_empty()) else {
        return types.first().copied();
    };
    let mut best: Option<((u16, u8), Agreed)> = None;
    for &offered in types {
        let rank = rank(offered.content_type, accept);
        if rank.0 > 0 && best.is_none_or(|(known, _)| rank > known) {
            best = Some((rank, offered));
        }
    }
    best.map(|(_, offered)| offered)
}

/// The quality (in thousandths) from the most specific matching range, and its specificity.
fn rank(offered: &str, accept: &str) -> (u16, u8) {
    let ranges = accept.split(',').filter_map(|range| {
        let mut parts = range.split(';').map(str::trim);
        let specificity = specificity(offered, parts.next()?)?;
        let quality = parts.find_map(|parameter| {
            let (name, value) = parameter.split_once('=')?;
            name.trim().eq_ignore_ascii_case("q").then(|| quality(value.trim()))
        });
        Some((quality.unwrap_or(1000), specificity))
    });
    ranges.max_by_key(|&(quality, specificity)| (specificity, quality)).unwrap_or((0, 0))
}

fn specificity(offered: &str, range: &str) -> Option<u8> {
    if range == "*/*" {
        return Some(1);
    }
    if range.eq_ignore_ascii_case(offered) {
        return Some(3);
    }
    let kind = range.strip_suffix("/*")?;
    offered.split_once('/').is_some_and(|(own, _)| own.eq_ignore_ascii_case(kind)).then_some(2)
}

/// A weight in thousandths; an invalid weight counts as absent.
fn quality(text: &str) -> u16 {
    match text.parse::<f32>() {
        Ok(weight) if (0.0..=1.0).contains(&weight) => (weight * 1000.0).round() as u16,
        _ => 1000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agreed(offer: Offer, accept: &str) -> Option<&'static str> {
        let accept = (accept != "-").then_some(accept);
        negotiate(offer, None, accept, false).ok().map(|agreed| agreed.content_type)
    }

    #[test]
    fn accept_decides() {
        let sse = Offer::Only(Transport::Sse);
        let ndjson = Offer::Only(Transport::Ndjson);
        for (offer, accept, expected) in [
            (sse, "-", Some("text/event-stream")),
            (sse, "", Some("text/event-stream")),
            (sse, "*/*", Some("text/event-stream")),
            (sse, "text/*", Some("text/event-stream")),
            (sse, "Text/Event-Stream", Some("text/event-stream")),
            (sse, "application/json", None),
            (sse, "text/event-stream;q=0, */*", None),
            (ndjson, "-", Some("application/x-ndjson")),
            (ndjson, "application/json", Some("application/json")),
            (ndjson, "application/jsonl, application/json;q=0.5", Some("application/jsonl")),
            (ndjson, "application/json, */*;q=0.1", Some("application/json")),
            (ndjson, "application/*", Some("application/x-ndjson")),
            (ndjson, "text/event-stream", None),
            (Offer::Auto, "-", Some("application/x-ndjson")),
            (Offer::Auto, "*/*", Some("application/x-ndjson")),
            (Offer::Auto, "text/event-stream", Some("text/event-stream")),
            (Offer::Auto, "*/*, text/event-stream", Some("text/event-stream")),
            (Offer::Auto, "text/event-stream;q=0.5, application/json;q=0.9", Some("application/json")),
            (Offer::Auto, "text/html, */*;q=0.8", Some("application/x-ndjson")),
            (Offer::Auto, "text/html", None),
        ] {
            assert_eq!(agreed(offer, accept), expected, "{offer:?} {accept}");
        }
    }

    #[test]
    fn a_document_is_sent_where_it_is_preferred() {
        for (offer, accept, is_paged, expected) in [
            (Offer::Auto, "application/json", false, true),
            (Offer::Auto, "application/json, */*;q=0.1", false, true),
            (Offer::Auto, "application/json;q=0.5, text/event-stream", false, false),
            (Offer::Auto, "application/x-ndjson, application/json", false, false),
            (Offer::Auto, "application/*", false, false),
            (Offer::Auto, "*/*", false, false),
            (Offer::Auto, "", false, false),
            (Offer::Auto, "*/*", true, true),
            (Offer::Auto, "", true, true),
            (Offer::Auto, "text/event-stream", true, false),
            (Offer::Auto, "application/json;q=0, */*", true, false),
            (Offer::Only(Transport::Sse), "application/json", false, true),
        ] {
            assert_eq!(prefers_document(offer, Some(accept), is_paged), expected, "{offer:?} {accept} {is_paged}");
        }
    }

    #[test]
    fn upgrade_decides() {
        let websocket = Offer::Only(Transport::WebSocket);
        assert_eq!(negotiate(websocket, None, None, false), Err(Disagreed::UpgradeRequired));
        for offer in [websocket, Offer::Auto] {
            assert_eq!(negotiate(offer, None, Some("text/html"), true).unwrap().transport, Transport::WebSocket);
        }
        // A server may ignore an upgrade (RFC 9110 section 7.8).
        assert_eq!(negotiate(Offer::Only(Transport::Sse), None, None, true).unwrap().transport, Transport::Sse);
    }

    #[test]
    fn a_framing_wins() {
        let agreed = |offer, framing, accept, asks_websocket| {
            negotiate(offer, Some(framing), accept, asks_websocket).map(|agreed| agreed.content_type)
        };
        let auto = |framing, accept| agreed(Offer::Auto, framing, accept, false);
        for transport in Transport::framings() {
            let types = transport.row().media_types();
            assert_eq!(auto(transport.as_str(), None), Ok(types[0]));
            assert_eq!(auto(transport.as_str(), Some("text/html")), Ok(types[0]), "whatever is accepted");
            for media_type in types {
                assert_eq!(auto(transport.as_str(), Some(media_type)), Ok(*media_type));
            }
            assert_eq!(agreed(Offer::Auto, transport.as_str(), None, true), Ok(types[0]), "over an upgrade, too");
        }
        for unknown in ["", "ws", "json", "NDJSON"] {
            assert_eq!(auto(unknown, None), Err(Disagreed::UnknownFraming), "{unknown}");
        }
        let not_offered = agreed(Offer::Only(Transport::Sse), "json-seq", None, false);
        assert_eq!(not_offered, Err(Disagreed::NotAcceptable(vec!["text/event-stream"])));
        assert_eq!(agreed(Offer::Only(Transport::WebSocket), "ndjson", None, true), Err(Disagreed::UpgradeRequired));
    }

    #[test]
    fn every_transport_has_a_type_of_its_own() {
        for transport in Transport::framings() {
            let own = transport
                .media_type()
                .unwrap_or_else(|| panic!("every media type of {transport:?} has an earlier line"));
            let agreed = negotiate(Offer::Auto, None, Some(own), false).unwrap();
            assert_eq!(agreed, Agreed { transport, content_type: own });
        }
    }
}
