//! Parses nginx's configuration language as far as snippets need it: words, quotes, comments, `;` and blocks, with
//! lines.
//!
//! It does not know the meaning of directives. It continues after a syntax error and reports the line of each. It skips
//! scripts (`..._by_lua_block`).

use std::iter::Peekable;
use std::rc::Rc;
use std::str::Chars;

/// The largest snippet, in bytes: Kubernetes limits all annotations of an object to this size.
const SNIPPET_BYTES_MAX: usize = 256 * 1024;
/// The most directives and errors of one snippet. More indicate that the text is not a snippet.
const DIRECTIVES_MAX: usize = 2_000;
/// The deepest nesting of blocks.
const DEPTH_MAX: usize = 16;
/// Blocks that contain tables instead of directives.
const TABLES: [&str; 5] = ["map", "geo", "types", "split_clients", "charset_map"];

/// A directive, or a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Directive {
    pub(super) name: String,
    pub(super) arguments: Vec<String>,
    /// In the snippet, 1-based.
    pub(super) line: u64,
    /// The enclosing block as written: `if ($http_upgrade)`.
    pub(super) within: Option<Rc<str>>,
}

/// The parsed directives, and the errors with their lines.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Snippet {
    pub(super) directives: Vec<Directive>,
    pub(super) mistakes: Vec<(u64, String)>,
}

enum Token {
    Word(String),
    /// `;`
    End,
    /// `{`
    Open,
    /// `}`
    Close,
    /// An unterminated quoted word.
    Unterminated,
}

/// Parses a snippet. `is_known` recognizes names of directives: a known name at the start of a line shows that the
/// previous line lacks its `;`.
pub(super) fn parse(text: &str, is_known: impl Fn(&str) -> bool) -> Snippet {
    if text.len() > SNIPPET_BYTES_MAX {
        let mistakes = vec![(1, format!("longer than {SNIPPET_BYTES_MAX} bytes"))];
        return Snippet { directives: Vec::new(), mistakes };
    }
    let mut parser =
        Parser { tokens: Lexer::new(text), snippet: Snippet::default(), words: Vec::new(), blocks: Vec::new() };
    while let Some((token, line)) = parser.tokens.next_token() {
        if parser.snippet.directives.len() + parser.snippet.mistakes.len() >= DIRECTIVES_MAX {
            parser.mistake(line, format!("more than {DIRECTIVES_MAX} directives; what follows was not read"));
            return parser.snippet;
        }
        parser.take(token, line, &is_known);
    }
    parser.finish()
}

struct Parser<'a> {
    tokens: Lexer<'a>,
    snippet: Snippet,
    /// The words of the current directive, each with its line.
    words: Vec<(String, u64)>,
    blocks: Vec<Block>,
}

struct Block {
    written: Rc<str>,
    line: u64,
    /// The content is not directives.
    is_table: bool,
}

impl Parser<'_> {
    fn take(&mut self, token: Token, line: u64, is_known: &impl Fn(&str) -> bool) {
        match token {
            Token::Word(word) => {
                let is_next_line = self.words.last().is_some_and(|(_, before)| *before < line);
                if is_next_line && !self.is_in_table() && is_known(&word) {
                    self.forgotten_end();
                }
                self.words.push((word, line));
            }
            Token::End if self.words.is_empty() => self.mistake(line, "`;` without a directive".into()),
            Token::End => self.directive(),
            Token::Open => self.open(line),
            Token::Close => self.close(line),
            Token::Unterminated => {
                self.words.clear();
                self.mistake(line, "a quote is opened and not closed in this line".into());
            }
        }
    }

    fn directive(&mut self) {
        let words = std::mem::take(&mut self.words);
        let line = words.first().map_or(1, |(_, line)| *line);
        let mut words = words.into_iter().map(|(word, _)| word);
        let (Some(name), false) = (words.next(), self.is_in_table()) else {
            return;
        };
        let within = self.blocks.last().map(|block| block.written.clone());
        self.snippet.directives.push(Directive { name, arguments: words.collect(), line, within });
    }

    fn open(&mut self, line: u64) {
        let name = self.words.first().map(|(word, _)| word.clone()).unwrap_or_default();
        if name.is_empty() {
            self.mistake(line, "`{` without a directive".into());
        }
        if name.ends_with("_by_lua_block") {
            self.directive();
            return self.tokens.skip_script();
        }
        let written: Vec<_> = self.words.iter().map(|(word, _)| word.as_str()).collect();
        let is_table = TABLES.contains(&name.as_str()) || self.is_in_table();
        let block = Block { written: written.join(" ").into(), line, is_table };
        if self.blocks.len() >= DEPTH_MAX {
            self.mistake(line, format!("more than {DEPTH_MAX} blocks within each other"));
        }
        self.directive();
        self.blocks.push(block);
    }

    fn close(&mut self, line: u64) {
        if !self.words.is_empty() {
            self.forgotten_end();
        }
        if self.blocks.pop().is_none() {
            self.mistake(line, "`}` closes nothing".into());
        }
    }

    /// A directive without a terminator: parsed as if it had one.
    fn forgotten_end(&mut self) {
        if let Some((name, line)) = self.words.first().cloned() {
            self.mistake(line, format!("`{name}` is not ended by `;`"));
        }
        self.directive();
    }

    fn is_in_table(&self) -> bool {
        self.blocks.last().is_some_and(|block| block.is_table)
    }

    fn mistake(&mut self, line: u64, text: String) {
        self.snippet.mistakes.push((line, text));
    }

    fn finish(mut self) -> Snippet {
        if !self.words.is_empty() {
            self.forgotten_end();
        }
        while let Some(block) = self.blocks.pop() {
            self.mistake(block.line, format!("the block of `{}` is not closed", block.written));
        }
        self.snippet
    }
}

/// Splits words as nginx does: a word ends at white space, `;` and `{` (except in `${name}`).
struct Lexer<'a> {
    rest: Peekable<Chars<'a>>,
    line: u64,
}

impl<'a> Lexer<'a> {
    fn new(text: &'a str) -> Self {
        Self { rest: text.chars().peekable(), line: 1 }
    }

    fn next_char(&mut self) -> Option<char> {
        let next = self.rest.next();
        self.line += u64::from(next == Some('\n'));
        next
    }

    /// The next token, with its first line.
    fn next_token(&mut self) -> Option<(Token, u64)> {
        loop {
            let first = *self.rest.peek()?;
            let line = self.line;
            match first {
                '#' => while self.next_char().is_some_and(|c| c != '\n') {},
                c if c.is_whitespace() => {
                    self.next_char();
                }
                ';' | '{' | '}' => {
                    self.next_char();
                    let token = if first == ';' {
                        Token::End
                    } else if first == '{' {
                        Token::Open
                    } else {
                        Token::Close
                    };
                    return Some((token, line));
                }
                '"' | '\'' => return Some((self.quoted(), line)),
                _ => return Some((self.bare(), line)),
            }
        }
    }

    /// A quoted word. If it has no closing quote, only its line is lost.
    fn quoted(&mut self) -> Token {
        let before = (self.rest.clone(), self.line);
        let quote = self.next_char();
        let mut word = String::new();
        while let Some(c) = self.next_char() {
            match c {
                '\\' => word.extend(self.next_char()),
                c if Some(c) == quote => return Token::Word(word),
                c => word.push(c),
            }
        }
        (self.rest, self.line) = before;
        while self.next_char().is_some_and(|c| c != '\n') {}
        Token::Unterminated
    }

    fn bare(&mut self) -> Token {
        let mut word = String::new();
        while let Some(&c) = self.rest.peek() {
            let is_variable = c == '{' && word.ends_with('$');
            if c.is_whitespace() || c == ';' || c == '{' && !is_variable {
                break;
            }
            self.next_char();
            word.push(c);
            if c == '\\' {
                word.extend(self.next_char());
            }
        }
        Token::Word(word)
    }

    /// Skips a script up to the `}` that ends its block. Braces in strings and comments count as well, which is wrong
    /// only if they are unbalanced.
    fn skip_script(&mut self) {
        let mut depth = 1_usize;
        while depth > 0 {
            match self.next_char() {
                Some('{') => depth += 1,
                Some('}') => depth -= 1,
                Some(_) => {}
                None => return,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (Vec<String>, Vec<(u64, String)>) {
        let snippet = parse(text, |name| name.starts_with("proxy_"));
        let directives = snippet.directives.into_iter().map(|directive| {
            let within = directive.within.map(|within| format!(" in {within}")).unwrap_or_default();
            format!("{}: {} {:?}{within}", directive.line, directive.name, directive.arguments)
        });
        (directives.collect(), snippet.mistakes)
    }

    #[test]
    fn words_quotes_comments_and_blocks() {
        let text = "proxy_buffering off; # no\n\n# proxy_cache on;\nadd_header X \"a;{}\\\" b\" 'it''s';\n\
                    if ($http_upgrade ~* \"^web\") {\n  set $x ${y}z; }\nreturn 200 a#b;";
        let (directives, mistakes) = read(text);
        let expected = [
            "1: proxy_buffering [\"off\"]",
            "4: add_header [\"X\", \"a;{}\\\" b\", \"it\", \"s\"]",
            "5: if [\"($http_upgrade\", \"~*\", \"^web\", \")\"]",
            "6: set [\"$x\", \"${y}z\"] in if ($http_upgrade ~* ^web )",
            "7: return [\"200\", \"a#b\"]",
        ];
        assert_eq!((directives, mistakes), (expected.map(String::from).to_vec(), vec![]));
    }

    #[test]
    fn tables_and_scripts_are_passed_over() {
        let text = "map $a $b { default x; '' y; }\naccess_by_lua_block { if x then { y } end\n}\ngzip off;";
        let (directives, mistakes) = read(text);
        let expected = ["1: map [\"$a\", \"$b\"]", "2: access_by_lua_block []", "4: gzip [\"off\"]"];
        assert_eq!((directives, mistakes), (expected.map(String::from).to_vec(), vec![]));
    }

    #[test]
    fn syntax_errors_are_reported_with_their_line_and_the_rest_is_parsed() {
        type Case = (&'static str, &'static [&'static str], &'static [(u64, &'static str)]);
        let cases: [Case; 6] = [
            ("a b\nproxy_x off;", &["1: a [\"b\"]", "2: proxy_x [\"off\"]"], &[(1, "`a` is not ended by `;`")]),
            ("a \"b;\nc d;", &["2: c [\"d\"]"], &[(1, "a quote is opened and not closed in this line")]),
            ("}\na;", &["2: a []"], &[(1, "`}` closes nothing")]),
            ("a {\n b;", &["1: a []", "2: b [] in a"], &[(1, "the block of `a` is not closed")]),
            (";\n{ }", &[], &[(1, "`;` without a directive"), (2, "`{` without a directive")]),
            ("a { b }", &["1: a []", "1: b [] in a"], &[(1, "`b` is not ended by `;`")]),
        ];
        for (text, directives, mistakes) in cases {
            let (read, errors) = read(text);
            assert_eq!(read, directives, "{text}");
            let mistakes: Vec<_> = mistakes.iter().map(|(line, text)| (*line, String::from(*text))).collect();
            assert_eq!(errors, mistakes, "{text}");
        }
    }

    #[test]
    fn snippets_are_limited() {
        assert_eq!(parse(&"a;".repeat(DIRECTIVES_MAX + 1), |_| false).directives.len(), DIRECTIVES_MAX);
        let deep = parse(&"a {".repeat(DEPTH_MAX + 1), |_| false);
        assert!(deep.mistakes[0].1.contains("within each other"), "{:?}", deep.mistakes[0]);
    }
}
