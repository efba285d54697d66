//! The attributes of a distinguished name as a string (RFC 4514): `CN=device-17,OU=Sensors,O=Acme`. The older form with
//! slashes is refused, because it escapes nothing.

use serde_json::{Map, Value};

/// The attributes by their names in upper case: a text, or a list if there are several of one name. `None` if the text is
/// malformed.
pub(super) fn read(text: &str) -> Option<Map<String, Value>> {
    let mut attributes = Map::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (name, after) = rest.split_once('=')?;
        let name = name.trim();
        let is_name = name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.'));
        if name.is_empty() || !is_name {
            return None;
        }
        let (value, after) = value(after)?;
        add(&mut attributes, name.to_ascii_uppercase(), value);
        // A separator announces another attribute.
        rest = match after.strip_prefix([',', '+']) {
            Some("") => return None,
            Some(next) => next,
            None => after,
        };
    }
    Some(attributes)
}

fn add(attributes: &mut Map<String, Value>, name: String, value: String) {
    match attributes.get_mut(&name) {
        Some(Value::Array(values)) => values.push(value.into()),
        Some(first) => *first = Value::Array(vec![first.take(), value.into()]),
        None => drop(attributes.insert(name, value.into())),
    }
}

/// A value without its escapes, and the text after it. Spaces around it do not belong to it unless they are escaped. A
/// value in hexadecimal (`#0C01`) is kept as it is written.
fn value(text: &str) -> Option<(String, &str)> {
    let text = text.trim_start_matches(' ');
    let mut bytes = Vec::new();
    let mut trimmed = 0;
    let mut at = 0;
    while let Some(&byte) = text.as_bytes().get(at) {
        match byte {
            b',' | b'+' => break,
            b'\\' => {
                let (unescaped, length) = escaped(text.as_bytes().get(at + 1..)?)?;
                bytes.push(unescaped);
                trimmed = bytes.len();
                at += length;
            }
            b'"' | b';' | b'<' | b'>' => return None,
            _ => {
                bytes.push(byte);
                if byte != b' ' {
                    trimmed = bytes.len();
                }
            }
        }
        at += 1;
    }
    bytes.truncate(trimmed);
    Some((String::from_utf8(bytes).ok()?, &text[at..]))
}

/// The byte of an escape, and how many bytes follow the backslash: two hexadecimal digits, or the character itself.
fn escaped(after: &[u8]) -> Option<(u8, usize)> {
    let digit = |at: usize| char::from(*after.get(at)?).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    match (digit(0), digit(1)) {
        (Some(high), Some(low)) => Some((high * 16 + low, 2)),
        _ => Some((*after.first()?, 1)).filter(|(byte, _)| b" \"#+,;<=>\\".contains(byte)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn attributes_are_read() {
        for (text, expected) in [
            ("", json!({})),
            ("CN=device-17,OU=Sensors,O=Acme", json!({"CN": "device-17", "OU": "Sensors", "O": "Acme"})),
            ("cn = a , o= b c ", json!({"CN": "a", "O": "b c"})),
            ("CN=a+UID=7,DC=x,DC=y,DC=z", json!({"CN": "a", "UID": "7", "DC": ["x", "y", "z"]})),
            (r"CN=a\,CN\=admin,O=\C3\A9\20\ ", json!({"CN": "a,CN=admin", "O": "é  "})),
            ("emailAddress=a@b,1.2.3=#0C01", json!({"EMAILADDRESS": "a@b", "1.2.3": "#0C01"})),
            ("CN=,O=x=y", json!({"CN": "", "O": "x=y"})),
        ] {
            assert_eq!(read(text).map(Value::Object), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_is_malformed_is_refused() {
        for text in [
            "/C=US/O=Acme/CN=device-17",
            "CN",
            "=a",
            "CN=a,",
            "CN=a,,O=b",
            "C N=a",
            "CN=\"a,CN=admin\"",
            r"CN=a\",
            r"CN=\x",
            r"CN=\FF",
            "CN=a;O=b",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
