//! `sidestream explain`: asks the process on this host whether the holder of a token receives an event, and which step
//! decides. The token comes from a file or from standard input, never from the arguments, and is never printed.

use std::fs::File;
use std::io::{self, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::neighbour;
use super::output::{note, print};
use super::{CONFIG_VARIABLE, Output};
use crate::explain::QUESTION_BYTES_MAX;
use crate::http_client::HttpClient;

/// Longer than the process waits for the log.
const TIMEOUT: Duration = Duration::from_secs(15);
/// The exit code if it cannot be decided, or if the process cannot be asked.
const UNDECIDED: u8 = 2;

#[derive(Args, Debug, PartialEq, Eq)]
pub struct Explain {
    /// The path of the stream, as clients request it: /orders/7/events.
    #[arg(long, value_name = "PATH")]
    route: String,
    /// A file with the user's token; `-`: standard input.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// An event in the log: topic:partition:offset. Without an event: whether the stream opens.
    #[arg(long, value_name = "ID", conflicts_with = "event_file")]
    event: Option<String>,
    /// A file with the value of a record, as a producer would send it, instead of an event; `-`: standard input.
    #[arg(long, value_name = "FILE")]
    event_file: Option<PathBuf>,
    /// The topic of the record, if the stream has several.
    #[arg(long, value_name = "TOPIC", requires = "event_file")]
    topic: Option<String>,
    /// The output: text, or JSON as the admin listener returns it.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
    /// The configuration file of the process, for the address of its admin listener; default: 127.0.0.1:9090.
    #[arg(long, value_name = "FILE", env = CONFIG_VARIABLE)]
    config: Option<PathBuf>,
    /// The address of its admin listener, instead of the configured one.
    #[arg(long, value_name = "ADDR")]
    admin: Option<SocketAddr>,
}

/// Prints the steps of the decision, and returns 0 if the user receives the event, 1 if not, and 2 if that cannot be
/// decided.
///
/// # Errors
///
/// The output cannot be written.
pub fn explain(arguments: &Explain) -> io::Result<ExitCode> {
    let question = match question(arguments) {
        Ok(question) => question,
        Err(why) => {
            note(why)?;
            return Ok(ExitCode::from(UNDECIDED));
        }
    };
    let (address, origin) = neighbour::address(arguments.config.as_deref(), arguments.admin)?;
    if !address.ip().is_loopback() {
        // The listener would refuse it, after the token has passed the network in clear.
        note(format_args!(
            "{address} ({origin}) is not this host's loopback address: run this in the pod, or forward a local port to it"
        ))?;
        return Ok(ExitCode::from(UNDECIDED));
    }
    match ask(address, question) {
        Ok(answer) => {
            match arguments.output {
                Output::Json => print(&answer)?,
                Output::Text => print(described(&answer))?,
            }
            Ok(match answer["receives"].as_bool() {
                Some(true) => ExitCode::SUCCESS,
                Some(false) => ExitCode::FAILURE,
                None => ExitCode::from(UNDECIDED),
            })
        }
        Err(why) => {
            note(format_args!("cannot ask {address} ({origin}): {why}"))?;
            Ok(ExitCode::from(UNDECIDED))
        }
    }
}

fn question(arguments: &Explain) -> Result<Value, String> {
    let is_stdin = |path: &Option<PathBuf>| path.as_deref() == Some(Path::new("-"));
    if is_stdin(&arguments.token_file) && is_stdin(&arguments.event_file) {
        return Err("the token and the record cannot both come from standard input".into());
    }
    let read = |path: &Option<PathBuf>, what| path.as_deref().map(|path| content(path, what)).transpose();
    let token = read(&arguments.token_file, "the token")?;
    let record = read(&arguments.event_file, "the record")?;
    Ok(json!({
        "path": arguments.route,
        "token": token.map(|token| token.trim().to_owned()),
        "event": arguments.event,
        "record": record,
        "topic": arguments.topic,
    }))
}

/// The content of a file, or of standard input.
fn content(path: &Path, what: &str) -> Result<String, String> {
    let mut text = String::new();
    let limit = QUESTION_BYTES_MAX as u64;
    let read = match path == Path::new("-") {
        true => io::stdin().take(limit).read_to_string(&mut text),
        false => File::open(path).and_then(|file| file.take(limit).read_to_string(&mut text)),
    };
    read.map(|_| text).map_err(|error| format!("cannot read {what} from {}: {error}", path.display()))
}

fn ask(address: SocketAddr, question: Value) -> Result<Value, String> {
    let client = HttpClient::new(neighbour::CONNECT_TIMEOUT).map_err(|error| error.to_string())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    let body = Bytes::from(question.to_string());
    let answer = runtime.block_on(neighbour::request(&client, Method::POST, address, "/-/explain", body, TIMEOUT));
    let response = answer.map_err(|error| error.to_string())?;
    let body: Option<Value> = serde_json::from_slice(&response.body).ok();
    match (response.status, body) {
        (StatusCode::OK, Some(body)) if body.get("steps").is_some() => Ok(body),
        (status, Some(body)) if status.as_u16() >= 400 => {
            let detail = body.get("detail").and_then(Value::as_str).unwrap_or("no reason is given");
            Err(format!("refused: {}, {detail}", status.as_u16()))
        }
        _ => Err("the server at this address is not sidestream".into()),
    }
}

/// The steps, a line each, and the result.
fn described(answer: &Value) -> String {
    let mark = |passes: &Value| match passes.as_bool() {
        Some(true) => "yes",
        Some(false) => "no",
        None => "?",
    };
    let steps = answer["steps"].as_array().map(Vec::as_slice).unwrap_or_default();
    let line = |step: &Value| {
        let text = |name: &str| step[name].as_str().unwrap_or_default();
        format!("{:<11} {:<4} {}\n", text("step"), mark(&step["passes"]), text("detail"))
    };
    let result = match answer["receives"].as_bool() {
        Some(true) => "received".to_owned(),
        Some(false) => format!("not received: {} decides", answer["decided_by"].as_str().unwrap_or_default()),
        None => "undecided".to_owned(),
    };
    steps.iter().map(line).collect::<String>() + &result
}
