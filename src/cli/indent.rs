//! Pretty-prints JSON text. Unlike a parser of values, it preserves digits, escapes and the order of members.

/// Indents a JSON text. A text that is not JSON stays the same, except for spaces outside of strings.
pub(super) fn indent(json: &str) -> String {
    let mut out = String::with_capacity(json.len() * 2);
    let (mut depth, mut in_string, mut is_escaped) = (0_usize, false, false);
    let mut characters = json.chars().peekable();
    let line = |out: &mut String, depth: usize| {
        out.push('\n');
        out.extend(std::iter::repeat_n("  ", depth));
    };
    while let Some(character) = characters.next() {
        if in_string {
            out.push(character);
            in_string = is_escaped || character != '"';
            is_escaped = character == '\\' && !is_escaped;
            continue;
        }
        if matches!(character, '{' | '[' | ',' | ':') {
            while characters.next_if(|next| next.is_ascii_whitespace()).is_some() {}
        }
        match character {
            ' ' | '\n' | '\r' | '\t' => {}
            '{' | '[' if characters.next_if(|next| matches!(next, '}' | ']')).is_some() => {
                out.push_str(if character == '{' { "{}" } else { "[]" });
            }
            '{' | '[' => {
                out.push(character);
                depth += 1;
                line(&mut out, depth);
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                line(&mut out, depth);
                out.push(character);
            }
            ',' => {
                out.push(character);
                line(&mut out, depth);
            }
            ':' => out.push_str(": "),
            other => {
                in_string = other == '"';
                out.push(other);
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::indent;

    #[test]
    fn digits_order_and_escapes_stay() {
        let json = r#"{"z":12345678901234567890.10,"a":[],"b":{ },"s":"{\"x\": [1,2]}\\","l":[1,{"n":null}]}"#;
        let expected = "{\n  \"z\": 12345678901234567890.10,\n  \"a\": [],\n  \"b\": {},\n  \
                        \"s\": \"{\\\"x\\\": [1,2]}\\\\\",\n  \"l\": [\n    1,\n    {\n      \"n\": null\n    }\n  ]\n}";
        assert_eq!(indent(json), expected);
    }
}
