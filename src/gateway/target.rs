//! The request target as path and query, from any of its forms (RFC 9112 section 3.2).

use pingora::http::RequestHeader;

use super::query;

/// The path and the query, unchanged. A checked head contains ASCII only.
pub(super) fn split(request: &RequestHeader) -> (&str, Option<&str>) {
    let target = std::str::from_utf8(request.raw_path()).unwrap_or_default();
    let local = after_authority(target).unwrap_or(target);
    let (path, query) = local.split_once('?').map_or((local, None), |(path, query)| (path, Some(query)));
    // RFC 9110 section 4.2.3: an empty path equals `/`.
    (if path.is_empty() { "/" } else { path }, query)
}

/// Converts an absolute target to origin form, the only form that an upstream must expect from a proxy.
pub(super) fn make_local(request: &mut RequestHeader) -> pingora::Result<()> {
    if std::str::from_utf8(request.raw_path()).ok().and_then(after_authority).is_none() {
        return Ok(());
    }
    let local = match split(request) {
        (path, Some(query)) => format!("{path}?{query}"),
        (path, None) => path.to_owned(),
    };
    request.set_raw_path(local.as_bytes())
}

/// Removes a parameter from the query, if it is present.
pub(super) fn drop_parameter(request: &mut RequestHeader, name: &str) -> pingora::Result<()> {
    let (path, Some(query)) = split(request) else { return Ok(()) };
    let kept = query::without(query, name);
    if kept == query {
        return Ok(());
    }
    let target = if kept.is_empty() { path.to_owned() } else { format!("{path}?{kept}") };
    request.set_raw_path(target.as_bytes())
}

/// The part of an absolute target after its authority.
fn after_authority(target: &str) -> Option<&str> {
    if target.starts_with('/') {
        return None;
    }
    let (_, rest) = target.split_once("://")?;
    Some(rest.find(['/', '?']).map_or("", |at| &rest[at..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_split_as_they_came() {
        for (target, path, query, local) in [
            ("/a/b?c=d?e", "/a/b", Some("c=d?e"), "/a/b?c=d?e"),
            ("/a//b", "/a//b", None, "/a//b"),
            ("http://host/a?b", "/a", Some("b"), "/a?b"),
            ("http://host", "/", None, "/"),
            ("http://host?a", "/", Some("a"), "/?a"),
            ("/a?u=http://x/y", "/a", Some("u=http://x/y"), "/a?u=http://x/y"),
            ("*", "*", None, "*"),
        ] {
            let mut request = RequestHeader::build("GET", target.as_bytes(), None).unwrap();
            assert_eq!(split(&request), (path, query), "{target}");
            make_local(&mut request).unwrap();
            assert_eq!(request.raw_path(), local.as_bytes(), "{target}");
        }
    }
}
