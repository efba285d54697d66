//! The value of Envoy's `X-Forwarded-Client-Cert`: elements separated by commas, each with `Key=value` pairs separated by
//! semicolons. A value with one of these characters is in quotes, in which `\"` is a quote.

use super::Described;

/// The description in the only element. Further elements are of proxies before, and it is unknown whether those are
/// trusted: the proxy must replace the field, and not append to it. `None` if the value is malformed.
pub(super) fn read(text: &str) -> Option<Described> {
    let mut described = Described::default();
    let mut rest = text;
    loop {
        let (key, after) = rest.split_once('=')?;
        let (value, after) = value(after)?;
        match key.trim().to_ascii_lowercase().as_str() {
            // Only a value that was not quoted correctly adds a second one.
            "subject" if described.subject.is_some() => return None,
            "hash" if described.hash.is_some() => return None,
            "subject" => described.subject = Some(value),
            "hash" => described.hash = Some(value),
            // Envoy writes `URI=` for a certificate without a URI.
            _ if value.is_empty() => {}
            "uri" => described.uris.push(value),
            "dns" => described.names.push(value),
            _ => {}
        }
        match after.strip_prefix(';') {
            Some(next) => rest = next,
            None => return after.is_empty().then_some(described),
        }
    }
}

/// A value, and the text after it.
fn value(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ';', '"']).unwrap_or(text.len());
        return Some((text[..end].to_owned(), &text[end..]));
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, &quoted[at + 1..])),
            '\\' if quoted[at + 1..].starts_with('"') => {
                characters.next();
                value.push('"');
            }
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn described(subject: Option<&str>, uris: &[&str], names: &[&str], hash: Option<&str>) -> Described {
        let texts = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Described {
            subject: subject.map(Into::into),
            uris: texts(uris),
            names: texts(names),
            hash: hash.map(Into::into),
        }
    }

    #[test]
    fn an_element_of_envoy_is_read() {
        let text = "By=spiffe://x/a;By=y;Hash=ab12;Cert=\"-----BEGIN%20CERTIFICATE-----%0A\";\
                    Subject=\"CN=a\\,b,O=\\\"Acme\\\"\";URI=spiffe://x/b;DNS=a.example;DNS=b.example";
        let expected =
            described(Some("CN=a\\,b,O=\"Acme\""), &["spiffe://x/b"], &["a.example", "b.example"], Some("ab12"));
        assert_eq!(read(text), Some(expected));
        assert_eq!(read("Hash=ab;Subject=\"\";URI="), Some(described(Some(""), &[], &[], Some("ab"))));
        assert_eq!(read("URI=;DNS=a.example"), Some(described(None, &[], &["a.example"], None)));
        assert_eq!(read("hash=ab;SUBJECT=CN=x"), Some(described(Some("CN=x"), &[], &[], Some("ab"))));
    }

    #[test]
    fn what_can_be_forged_or_is_malformed_is_refused() {
        for text in [
            "",
            "Hash",
            "Hash=a,Hash=b",
            "Hash=a;Subject=\"CN=x\",Hash=b;Subject=\"CN=admin\"",
            "Hash=a;Subject=\"CN=x\";URI=y;Subject=\"CN=admin\"",
            "Hash=a;Hash=b",
            "Hash=a;Subject=\"CN=x",
            "Hash=a;Subject=\"CN=x\\\"",
            "Hash=a;Subject=\"CN=x\"CN=admin",
            "Hash=a;URI=x\"y",
            "Hash=a;",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
