//! One line of the log: its content, its length, and its rate.
//!
//! These rules apply to every event, whichever component logs it, because libraries quote input that they cannot parse
//! (heads, bodies), and a recurring failure logs repeatedly. The log enforces them, so that components need not.

use std::fmt::{self, Write as _};
use std::time::Instant;

use serde_json::{Map, Value, json};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use super::repeats::Repeats;

/// The longest line in bytes, including its line break.
pub(super) const LINE_BYTES_MAX: usize = 8 * 1024;
/// Reserved in it for a note at the end.
const NOTE_BYTES_MAX: usize = 64;

/// The targets whose events are written unchanged. Of other targets only the location is logged: their texts may quote
/// a request, a response or a secret. librdkafka's messages contain names of brokers, topics and properties.
const QUOTED: [&str; 4] = ["sidestream", STREAMS, "librdkafka", "rdkafka"];

/// The target of the lines about streams, one per stream.
const STREAMS: &str = "stream";

/// Formats events with these rules, otherwise as `inner` does.
pub(super) struct Lines<F> {
    inner: F,
    is_json: bool,
    repeats: Repeats,
}

impl<F> Lines<F> {
    pub(super) fn new(inner: F, is_json: bool) -> Self {
        Self { inner, is_json, repeats: Repeats::default() }
    }
}

impl<S, N, F> FormatEvent<S, N> for Lines<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    /// An error means that the event is suppressed: nothing is written.
    fn format_event(&self, ctx: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let source = Source::of(event);
        let left_out = match *event.metadata().level() {
            // These levels are enabled to see all events.
            Level::DEBUG | Level::TRACE => 0,
            // The documentation promises one line per stream.
            Level::INFO if source.target(event) == STREAMS => 0,
            _ => self.repeats.admit(&(source.target(event), source.line(event)), Instant::now()).ok_or(fmt::Error)?,
        };
        let mut line = String::new();
        if QUOTED.contains(&source.target(event).split("::").next().unwrap_or_default()) {
            self.inner.format_event(ctx, Writer::new(&mut line), event)?;
        } else {
            source.write(event, self.is_json, &mut line)?;
        }
        let line = if self.is_json { bounded_json(line, left_out) } else { bounded_text(line, left_out) };
        writer.write_str(&line)
    }
}

/// The location of an event. Events of the `log` crate have it in fields.
#[derive(Default)]
struct Source {
    target: Option<String>,
    line: Option<u64>,
}

impl Source {
    fn of(event: &Event<'_>) -> Self {
        let mut source = Self::default();
        if event.metadata().target() == "log" {
            event.record(&mut source);
        }
        source
    }

    fn target<'a>(&'a self, event: &Event<'a>) -> &'a str {
        self.target.as_deref().unwrap_or_else(|| event.metadata().target())
    }

    fn line(&self, event: &Event<'_>) -> Option<u64> {
        self.line.or_else(|| event.metadata().line().map(u64::from))
    }

    /// The line for an event whose text is withheld.
    fn write(&self, event: &Event<'_>, is_json: bool, out: &mut String) -> fmt::Result {
        let (level, target, line) = (event.metadata().level(), self.target(event), self.line(event).unwrap_or(0));
        let mut time = String::new();
        SystemTime.format_time(&mut Writer::new(&mut time))?;
        let message = "a library's message is kept back: it may quote a request or an answer";
        if is_json {
            let fields = json!({ "message": message, "line": line });
            let line = json!({ "timestamp": time, "level": level.as_str(), "fields": fields, "target": target });
            return writeln!(out, "{line}");
        }
        writeln!(out, "{time} {level:>5} {target}: {message} line={line}")
    }
}

impl Visit for Source {
    fn record_u64(&mut self, field: &Field, value: u64) {
        if field.name() == "log.line" {
            self.line = Some(value);
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "log.target" {
            self.target = Some(value.to_owned());
        }
    }

    fn record_debug(&mut self, _field: &Field, _value: &dyn fmt::Debug) {}
}

fn bounded_text(mut line: String, left_out: u64) -> String {
    line.truncate(line.trim_end_matches('\n').len());
    let cut = line.floor_char_boundary(LINE_BYTES_MAX - NOTE_BYTES_MAX);
    if cut < line.len() {
        let cut_off = line.len() - cut;
        line.truncate(cut);
        // Writing to a `String` does not fail.
        let _ = write!(line, "... ({cut_off} bytes more)");
    }
    if left_out > 0 {
        let _ = write!(line, " left_out={left_out}");
    }
    line.push('\n');
    line
}

/// Truncates texts until the object fits into a line.
fn bounded_json(line: String, left_out: u64) -> String {
    if left_out == 0 && line.len() <= LINE_BYTES_MAX {
        return line;
    }
    let Ok(Value::Object(mut object)) = serde_json::from_str(&line) else { return bounded_text(line, left_out) };
    if left_out > 0 {
        object.insert("left_out".to_owned(), left_out.into());
    }
    let mut text_bytes_max = LINE_BYTES_MAX;
    loop {
        let line = format!("{}\n", Value::Object(object.clone()));
        if line.len() <= LINE_BYTES_MAX || text_bytes_max == 0 {
            return line;
        }
        text_bytes_max /= 2;
        shorten(&mut object, text_bytes_max);
    }
}

fn shorten(object: &mut Map<String, Value>, text_bytes_max: usize) {
    for value in object.values_mut() {
        match value {
            Value::String(text) if text.len() > text_bytes_max => {
                text.truncate(text.floor_char_boundary(text_bytes_max));
                text.push_str("...");
            }
            Value::Object(inner) => shorten(inner, text_bytes_max),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::fmt::MakeWriter;

    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl MakeWriter<'_> for Written {
        type Writer = Self;

        fn make_writer(&self) -> Self {
            self.clone()
        }
    }

    fn logged(is_json: bool, log: impl FnOnce()) -> Vec<String> {
        let written = Written::default();
        let builder = tracing_subscriber::fmt().with_writer(written.clone());
        let format = tracing_subscriber::fmt::format();
        if is_json {
            let lines = Lines::new(format.json(), true);
            let fields = tracing_subscriber::fmt::format::JsonFields::new();
            let subscriber = builder.log_internal_errors(false).fmt_fields(fields).event_format(lines).finish();
            tracing::subscriber::with_default(subscriber, log);
        } else {
            let lines = Lines::new(format, false);
            let subscriber = builder.log_internal_errors(false).event_format(lines).finish();
            tracing::subscriber::with_default(subscriber, log);
        }
        let bytes = written.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap().lines().map(str::to_owned).collect()
    }

    #[test]
    fn lines_are_bounded() {
        for is_json in [false, true] {
            let long = "é\"".repeat(LINE_BYTES_MAX);
            let lines = logged(is_json, || tracing::warn!(long, other = long, "{long}"));
            assert_eq!(lines.len(), 1);
            assert!((LINE_BYTES_MAX / 8..LINE_BYTES_MAX).contains(&lines[0].len()), "{}", lines[0].len());
            if is_json {
                assert!(serde_json::from_str::<Value>(&lines[0]).unwrap()["fields"]["message"].is_string());
            } else {
                assert!(lines[0].ends_with("bytes more)"));
            }
        }
    }

    #[test]
    fn repeated_lines_are_suppressed_and_counted() {
        for is_json in [false, true] {
            let lines = logged(is_json, || {
                for n in 0..1000 {
                    tracing::warn!(n, "again");
                }
                tracing::warn!("another one");
            });
            assert!((2..50).contains(&lines.len()), "{}", lines.len());
            assert!(lines.last().unwrap().contains("another one"));
        }
        let line = bounded_json("{\"a\":1}\n".to_owned(), 7);
        assert_eq!(line, "{\"a\":1,\"left_out\":7}\n");
        assert_eq!(bounded_text("a\n".to_owned(), 7), "a left_out=7\n");
    }

    #[test]
    fn libraries_are_not_quoted() {
        for is_json in [false, true] {
            let lines = logged(is_json, || {
                tracing::warn!(target: "pingora_core::x", header = "secret", "Set-Cookie: {}", "secret");
                tracing::info!(target: "librdkafka", "a broker");
            });
            assert!(lines[0].contains("pingora_core::x") && !lines[0].contains("secret"), "{}", lines[0]);
            assert!(lines[1].contains("a broker"));
        }
    }
}
