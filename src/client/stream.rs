//! One stream: sends the request, reads the response head, and then item by item.

use std::collections::VecDeque;
use std::time::Duration;

use http::header::ACCEPT;
use http::request::{self, Request};
use tokio::runtime::{Builder, Runtime};

use super::body::{self, Body};
use super::websocket::{self, Key, Socket};
use super::{Failure, Head, Item, Target};
use crate::codec::Transport;
use crate::http_client::StreamingResponse;

/// The requested transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    Only(Transport),
    /// The one that the server selects, or else WebSocket if the server requires it.
    Auto,
}

/// The request.
#[derive(Clone, Debug)]
pub struct Asked<'a> {
    pub target: &'a Target,
    pub choice: Choice,
    pub headers: Vec<(String, String)>,
    pub parameters: Vec<(&'static str, String)>,
}

/// An open stream. Its connection makes progress while [`Self::next`] waits, on a runtime of its own.
#[derive(Debug)]
pub struct Stream {
    pub head: Head,
    wire: Wire,
    ready: VecDeque<Item>,
    runtime: Runtime,
}

#[derive(Debug)]
enum Wire {
    Http(Body),
    WebSocket(Box<Socket>),
}

/// The result of a read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    Item(Item),
    /// Nothing within the timeout.
    Nothing,
    End(End),
}

/// How a stream ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// By the transport's own means.
    Said(String),
    /// The connection was closed, which is the only end of a body without framing.
    Closed,
    /// Before its end.
    Cut(String),
}

impl std::fmt::Display for End {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Said(how) => write!(formatter, "ended: {how}"),
            Self::Closed => write!(formatter, "closed"),
            Self::Cut(why) => write!(formatter, "cut: {why}"),
        }
    }
}

impl Stream {
    /// Opens a stream. `patience` is the time limit for connecting and for the response head, each.
    ///
    /// # Errors
    ///
    /// Why there is no stream.
    pub fn open(asked: &Asked<'_>, patience: Duration) -> Result<Self, Failure> {
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| Failure::Unreachable(error.to_string()))?;
        let (head, wire) = runtime.block_on(open(asked, patience))?;
        Ok(Self { head, wire, ready: VecDeque::new(), runtime })
    }

    /// The next item within `patience`.
    pub fn next(&mut self, patience: Duration) -> Step {
        let step = self.wire.step(&mut self.ready);
        self.runtime.block_on(async { tokio::time::timeout(patience, step).await.unwrap_or(Step::Nothing) })
    }

    /// Whether it is a WebSocket.
    pub fn is_websocket(&self) -> bool {
        matches!(self.wire, Wire::WebSocket(_))
    }
}

impl Wire {
    async fn step(&mut self, ready: &mut VecDeque<Item>) -> Step {
        loop {
            if let Some(item) = ready.pop_front() {
                return Step::Item(item);
            }
            match self {
                Self::WebSocket(socket) => return websocket::next(socket).await,
                Self::Http(body) => {
                    if let Some(end) = body.read(ready).await {
                        return Step::End(end);
                    }
                }
            }
        }
    }
}

async fn open(asked: &Asked<'_>, patience: Duration) -> Result<(Head, Wire), Failure> {
    let transports = transports(asked);
    let types: Vec<&str> = transports.iter().filter_map(|transport| transport.media_type()).collect();
    if types.is_empty() {
        return upgrade(asked, patience).await;
    }
    match follow(asked, &types.join(", "), patience).await {
        // 426: the path offers only WebSocket.
        Err(Failure::Refused(head, _)) if asked.choice == Choice::Auto && head.status == 426 => {
            upgrade(asked, patience).await
        }
        answered => answered,
    }
}

async fn follow(asked: &Asked<'_>, accept: &str, patience: Duration) -> Result<(Head, Wire), Failure> {
    let (head, response) = send(asked, patience, |request| request.header(ACCEPT, accept)).await?;
    let body = Body::of(&head, response, patience).await?;
    Ok((head, Wire::Http(body)))
}

async fn upgrade(asked: &Asked<'_>, patience: Duration) -> Result<(Head, Wire), Failure> {
    let key = Key::new();
    let (head, response) = send(asked, patience, |request| key.ask(request)).await?;
    if head.status != 101 {
        return Err(body::refusal(head, response, patience).await);
    }
    let socket = websocket::open(&key, &head, response).await?;
    Ok((head, Wire::WebSocket(Box::new(socket))))
}

/// Sends the request, with what `complete` adds.
async fn send(
    asked: &Asked<'_>,
    patience: Duration,
    complete: impl FnOnce(request::Builder) -> request::Builder,
) -> Result<(Head, StreamingResponse), Failure> {
    let invalid = |error: http::Error| Failure::Broken(error.to_string());
    let request = Request::get(asked.target.uri_with(&asked.parameters).map_err(invalid)?);
    let request = asked.headers.iter().fold(request, |request, (name, value)| request.header(name, value));
    let request = complete(request).body(()).map_err(invalid)?;
    let response = StreamingResponse::open(request, patience).await?;
    Ok((Head::of(&response.head), response))
}

/// The requested transports.
fn transports(asked: &Asked<'_>) -> Vec<Transport> {
    match asked.choice {
        _ if asked.target.websocket => Transport::ALL.into_iter().filter(|transport| transport.is_upgrade()).collect(),
        Choice::Only(transport) => vec![transport],
        Choice::Auto => Transport::by_preference().collect(),
    }
}
