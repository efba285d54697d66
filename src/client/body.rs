//! The body of a stream over HTTP: bytes become items.

use std::collections::VecDeque;
use std::time::Duration;

use super::records::Parser;
use super::stream::End;
use super::{Failure, Head, Item};
use crate::codec::Transport;
use crate::http_client::StreamingResponse;

/// The longest part of a refusal's body that is read, in bytes.
const REFUSAL_BYTES_MAX: usize = 64 * 1024;
/// A media type of any service, which does not indicate a stream.
const GENERIC_TYPE: &str = "application/json";

/// The body of an open stream.
#[derive(Debug)]
pub(super) struct Body {
    response: StreamingResponse,
    parser: Parser,
    /// Whether the response states where its body ends (RFC 9112 section 6.3). Otherwise the connection ends it, so that
    /// truncation is not detected.
    is_delimited: bool,
    end: Option<End>,
}

impl Body {
    /// The body of a response that is a stream.
    ///
    /// # Errors
    ///
    /// It is none.
    pub(super) async fn of(head: &Head, response: StreamingResponse, patience: Duration) -> Result<Self, Failure> {
        let Some(parser) = parser(head).filter(|_| head.status == 200) else {
            return Err(refusal(head.clone(), response, patience).await);
        };
        let is_delimited = head.names("transfer-encoding", "chunked") || head.header("content-length").is_some();
        Ok(Self { response, parser, is_delimited, end: None })
    }

    /// Reads the next bytes, and appends the items that are complete with them. Returns the end, if it is reached. May
    /// be cancelled.
    pub(super) async fn read(&mut self, items: &mut VecDeque<Item>) -> Option<End> {
        if self.end.is_none() {
            self.end = match self.response.next().await {
                Some(Ok(bytes)) => match self.parser.feed(&bytes, |item| items.push_back(item)) {
                    Ok(()) => None,
                    Err(why) => Some(End::Cut(why.to_owned())),
                },
                Some(Err(error)) => Some(End::Cut(error.to_string())),
                None if self.is_delimited => Some(End::Said("the body is complete".to_owned())),
                None => Some(End::Closed),
            };
        }
        self.end.clone().filter(|_| items.is_empty())
    }
}

/// The failure for a response that is not a stream, with the beginning of its body, as far as it arrives within
/// `patience`. The status is what matters.
pub(super) async fn refusal(head: Head, mut response: StreamingResponse, patience: Duration) -> Failure {
    let mut content = Vec::new();
    let read = async {
        while let Some(Ok(bytes)) = response.next().await
            && content.len() < REFUSAL_BYTES_MAX
        {
            let room = REFUSAL_BYTES_MAX - content.len();
            content.extend_from_slice(&bytes[..bytes.len().min(room)]);
        }
    };
    let _ = tokio::time::timeout(patience, read).await;
    Failure::Refused(head, String::from_utf8_lossy(&content).into_owned())
}

/// How a stream of this content type is parsed; `None` if it is not a stream.
fn parser(head: &Head) -> Option<Parser> {
    let content_type = head.header("content-type")?;
    let media_type = content_type.split(';').next().unwrap_or_default().trim();
    let is_generic = media_type.eq_ignore_ascii_case(GENERIC_TYPE);
    let transport = Transport::of_media_type(media_type).filter(|_| !is_generic)?;
    transport.row().reader().map(Parser::new)
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Write};
    use std::net::TcpListener;
    use std::thread;

    use super::super::{Asked, Choice, Kind, Step, Stream};
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    /// Opens a stream at a server that sends this response and closes the connection.
    fn open(response: String) -> Result<Stream, Failure> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/a?b=c", listener.local_addr().unwrap());
        let server = thread::spawn(move || {
            let (mut socket, _) = listener.accept().unwrap();
            let lines = BufReader::new(socket.try_clone().unwrap()).lines().map(Result::unwrap);
            let head: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
            socket.write_all(response.as_bytes()).unwrap();
            head
        });
        let headers = vec![("x-mine".to_owned(), "1".to_owned())];
        let parameters = vec![("since", "o:0:1".to_owned())];
        let choice = Choice::Only(Transport::Ndjson);
        let opened = Stream::open(&Asked { target: &url.parse().unwrap(), choice, headers, parameters }, PATIENCE);
        let head = server.join().unwrap();
        assert_eq!(head[0], "GET /a?b=c&since=o%3A0%3A1 HTTP/1.1");
        for field in ["accept: application/x-ndjson", "x-mine: 1", &format!("host: {}", &url[7..url.len() - 6])] {
            assert!(head.iter().any(|line| line == field), "{field}: {head:?}");
        }
        opened
    }

    /// How a stream of one event with this framing and body ends.
    fn end(framing: &str, body: &str) -> End {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson; charset=utf-8\r\n{framing}\r\n");
        let mut stream = open(head + body).unwrap();
        let Step::Item(item) = stream.next(PATIENCE) else { panic!("no item") };
        assert_eq!((item.kind, &*item.data), (Kind::Event, "{}"));
        let Step::End(end) = stream.next(PATIENCE) else { panic!("no end") };
        assert_eq!(stream.next(PATIENCE), Step::End(end.clone()), "it stays at its end");
        end
    }

    #[test]
    fn an_end_and_a_cut_are_distinguished() {
        let chunked = "Transfer-Encoding: chunked\r\n";
        assert!(matches!(end(chunked, "3\r\n{}\n\r\n0\r\nTrailer: 1\r\n\r\n"), End::Said(_)));
        assert!(matches!(end("Content-Length: 3\r\n", "{}\n"), End::Said(_)));
        assert!(matches!(end(chunked, "3\r\n{}\n\r\n"), End::Cut(_)));
        assert!(matches!(end(chunked, "9\r\n{}\n"), End::Cut(_)));
        assert!(matches!(end("Content-Length: 4\r\n", "{}\n"), End::Cut(_)));
        assert_eq!(end("", "{}\n"), End::Closed);
    }

    #[test]
    fn other_responses_are_refusals_or_broken() {
        let refusal = open("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno".into()).unwrap_err();
        assert!(matches!(&refusal, Failure::Refused(head, body) if head.status == 403 && body == "no"), "{refusal:?}");
        let page = open("HTTP/1.0 200 OK\r\nContent-Type: text/html\r\n\r\n<p>".into()).unwrap_err();
        assert!(matches!(&page, Failure::Refused(head, body) if head.minor == 0 && body == "<p>"), "{page:?}");
        for broken in ["", "SSH-2.0-x\r\n", "HTTP/1.1 200 OK\r\nContent-"] {
            let failure = open(broken.into()).unwrap_err();
            assert!(matches!(failure, Failure::Broken(_)), "{broken:?}: {failure:?}");
        }
    }
}
