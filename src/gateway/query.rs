//! The query of a stream request, parsed once: known parameters, and misspelt names.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

/// A known parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Parameter {
    LastEventId,
    Since,
    From,
    Framing,
    Heartbeat,
    BatchSize,
    BatchWindow,
    Probe,
    Subscribe,
    Ticket,
    MaxRate,
    Credit,
}

/// The names of each parameter. `EventSource` cannot set headers for its first connection, so that a page states its
/// position in the query; `offset` is an alias of `since`.
const NAMES: [(&str, Parameter); 14] = [
    ("last_event_id", Parameter::LastEventId),
    ("lastEventId", Parameter::LastEventId),
    ("since", Parameter::Since),
    ("offset", Parameter::Since),
    ("from", Parameter::From),
    ("framing", Parameter::Framing),
    ("heartbeat", Parameter::Heartbeat),
    ("batchSize", Parameter::BatchSize),
    ("batchWindow", Parameter::BatchWindow),
    ("probe", Parameter::Probe),
    ("subscribe", Parameter::Subscribe),
    ("ticket", Parameter::Ticket),
    ("maxRate", Parameter::MaxRate),
    ("credit", Parameter::Credit),
];
/// Longer names are not considered as typos, in bytes of the encoded name.
const NAME_BYTES_MAX: usize = 24;
/// Shorter names resemble known ones by chance.
const SLIP_BYTES_MIN: usize = 4;

/// The parameters of one request, in the order of the query.
#[derive(Debug, Default)]
pub(super) struct Query<'a> {
    known: Vec<(Parameter, &'a str)>,
    slip: Option<Slip<'a>>,
}

/// A misspelt parameter. Ignoring it would serve another stream than requested.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{written}` is no parameter of a stream; did you mean `{meant}`?")]
pub(super) struct Slip<'a> {
    written: Cow<'a, str>,
    meant: &'static str,
}

impl<'a> Query<'a> {
    /// Parses a query without its `?`, encoded like an HTML form (WHATWG URL section 5.1). Unknown names are skipped.
    pub(super) fn parse(query: &'a str) -> Self {
        let mut parsed = Self::default();
        for pair in query.split('&') {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            if name.len() > NAME_BYTES_MAX {
                continue;
            }
            let name = decoded(name);
            match NAMES.iter().find(|(known, _)| *known == name) {
                Some((_, parameter)) => parsed.known.push((*parameter, value)),
                None if parsed.slip.is_none() => parsed.slip = slip(name),
                None => {}
            }
        }
        parsed
    }

    /// The first misspelt name.
    pub(super) fn slip(&self) -> Option<&Slip<'a>> {
        self.slip.as_ref()
    }

    /// The first value of a parameter, decoded.
    pub(super) fn first(&self, parameter: Parameter) -> Option<Cow<'a, str>> {
        self.all(&[parameter]).next()
    }

    /// The value of a parameter that may occur once; empty if it occurs several times.
    pub(super) fn single(&self, parameter: Parameter) -> Option<Cow<'a, str>> {
        let parameters = [parameter];
        let mut values = self.all(&parameters);
        let first = values.next()?;
        Some(if values.next().is_some() { Cow::Borrowed("") } else { first })
    }

    /// The values of these parameters, decoded, in the order of the query.
    pub(super) fn all(&self, parameters: &[Parameter]) -> impl Iterator<Item = Cow<'a, str>> {
        self.known.iter().filter(|(known, _)| parameters.contains(known)).map(|(_, value)| decoded(value))
    }
}

/// Whether a name equals a known one except for case, `-` and `_`, or for one inserted, deleted, replaced or transposed
/// letter.
fn slip(written: Cow<'_, str>) -> Option<Slip<'_>> {
    if written.len() < SLIP_BYTES_MIN {
        return None;
    }
    let bare = |name: &str| name.replace(['-', '_'], "").to_ascii_lowercase();
    let name = bare(&written);
    let is_near = |known: &str| strsim::osa_distance(&bare(known), &name) <= 1;
    let meant = NAMES.iter().map(|(known, _)| *known).find(|known| is_near(known))?;
    Some(Slip { written, meant })
}

/// The value of a parameter that may occur once; empty if it occurs several times.
pub(super) fn single<'a>(query: &'a str, name: &str) -> Option<Cow<'a, str>> {
    let named = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let mut values = named.filter(|(key, _)| is_named(key, name)).map(|(_, value)| decoded(value));
    let first = values.next()?;
    Some(if values.next().is_some() { Cow::Borrowed("") } else { first })
}

/// The query without a parameter.
pub(super) fn without(query: &str, name: &str) -> String {
    let is_other = |pair: &&str| !is_named(pair.split('=').next().unwrap_or_default(), name);
    query.split('&').filter(is_other).collect::<Vec<_>>().join("&")
}

/// Names contain neither `+` nor spaces. Keys are compared without copying.
fn is_named(key: &str, name: &str) -> bool {
    percent_decode_str(key).eq(name.bytes())
}

pub(super) fn decoded(text: &str) -> Cow<'_, str> {
    if text.contains('+') {
        let spaced = text.replace('+', " ");
        return Cow::Owned(percent_decode_str(&spaced).decode_utf8_lossy().into_owned());
    }
    percent_decode_str(text).decode_utf8_lossy()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_parameters_are_found_however_they_are_encoded() {
        let query = Query::parse("a=b&since=t%3A0%3A1&&=x&%73ince=t:0:2&offset=t:0:3&probe");
        let since: Vec<_> = query.all(&[Parameter::Since]).collect();
        assert_eq!(since, ["t:0:1", "t:0:2", "t:0:3"]);
        assert_eq!(query.first(Parameter::Probe).as_deref(), Some(""));
        assert_eq!(query.first(Parameter::Heartbeat), None);
        assert_eq!(query.slip(), None);
        assert_eq!(decoded("a+b%2Bc"), "a b+c");
    }

    #[test]
    fn a_name_that_is_nearly_ours_names_the_right_one() {
        for (written, meant) in [
            ("sinse", "since"),
            ("Since", "since"),
            ("sicne", "since"),
            ("offsets", "offset"),
            ("last-event-id", "last_event_id"),
            ("lasteventid", "last_event_id"),
            ("LastEventID", "last_event_id"),
            ("batchsize", "batchSize"),
            ("batch_window", "batchWindow"),
            ("heartbeats", "heartbeat"),
            ("subscibe", "subscribe"),
            ("farming", "framing"),
        ] {
            let query = format!("{written}=1");
            let slip = Query::parse(&query).slip().map(|slip| slip.meant);
            assert_eq!(slip, Some(meant), "{written}");
        }
        let long = format!("{}=1", "since".repeat(20));
        for foreign in
            ["a=1", "sin=1", "id=1", "size=1", "page=1", "token=1", "ticket=1", "orderId=1", "beat=1", "", "=", &long]
        {
            assert_eq!(Query::parse(foreign).slip(), None, "{foreign}");
        }
    }
}
