//! The history of a run in order of observation: all components write to it, and the checker reads it.
//!
//! It judges nothing. One recorder assigns all timestamps, so that they are comparable. `HISTORY=file` also writes JSON
//! lines.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use serde::{Deserialize, Deserializer, Serialize};

pub type Text = Arc<str>;

/// In a log that replaces another one, in part or as a whole, offsets are larger by this much in the history: a place
/// names one record.
pub const GENERATION: i64 = 1 << 40;

/// The prefix of the `uid` of a fence: the last record of its partition for its access scope.
pub const FENCE: &str = "fence-";

/// An operation, `t` nanoseconds after the recorder was created.
#[derive(Clone, Debug, Serialize)]
pub struct Record {
    pub t: u64,
    #[serde(flatten)]
    pub op: Op,
}

/// `acl` is `tenant/user`: the recipient of a record. A client's `scope` is what it may receive.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "op", rename_all = "lowercase")]
pub enum Op {
    /// Acknowledged by the broker.
    Produce {
        #[serde(flatten)]
        place: Place,
        key: Text,
        uid: Text,
        acl: Text,
    },
    /// Without acknowledgement: the broker may have it or not.
    #[serde(rename = "produce?")]
    Unsure {
        uid: Text,
    },
    /// Its transaction was aborted: no client may receive it.
    Aborted {
        uid: Text,
    },
    /// A record of the log, as read at the end by an independent consumer.
    Log {
        #[serde(flatten)]
        place: Place,
        uid: Text,
        acl: Text,
    },
    /// The log lost this record otherwise than by retention: no client has to receive it.
    Lost {
        #[serde(flatten)]
        place: Place,
    },
    /// The log of a partition was replaced, in part or as a whole: later records have offsets of earlier ones.
    Replaced {
        topic: Text,
        part: i32,
    },
    /// A response to a stream request. `last` is the cursor in the request.
    Open {
        client: usize,
        conn: u32,
        proto: Proto,
        scope: Arc<[Text]>,
        topics: Arc<[Text]>,
        last: Option<Text>,
        status: u16,
    },
    /// A complete frame with an event.
    Recv {
        client: usize,
        conn: u32,
        id: Text,
        uid: Text,
        #[serde(flatten)]
        place: Place,
    },
    /// A gap, in the stream or in a 410 response.
    Gap {
        client: usize,
        conn: u32,
        reason: Text,
        ranges: Vec<Range>,
    },
    Close {
        client: usize,
        conn: u32,
        by: By,
    },
    Fault {
        kind: &'static str,
        phase: Phase,
    },
    /// A replica exited without being asked to.
    Crash {
        replica: usize,
        status: String,
    },
    /// The client has received every fence of its scope, or stopped early.
    End {
        client: usize,
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        gave_up: bool,
    },
}

/// The position of a record in Kafka.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Place {
    pub topic: Text,
    pub part: i32,
    pub off: i64,
}

impl Place {
    /// Its partition.
    pub fn lane(&self) -> (Text, i32) {
        (self.topic.clone(), self.part)
    }

    /// From an event id, `topic:partition:offset`.
    pub fn of(id: &str) -> Option<Self> {
        let (rest, off) = id.rsplit_once(':')?;
        let (topic, part) = rest.rsplit_once(':')?;
        Some(Self { topic: topic.into(), part: part.parse().ok()?, off: off.parse().ok()? })
    }
}

/// Offsets of one partition, both ends included, as in gaps; a null end is unbounded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Range {
    pub topic: Text,
    pub partition: i32,
    pub from: i64,
    #[serde(deserialize_with = "or_endless")]
    pub to: i64,
}

fn or_endless<'de, D: Deserializer<'de>>(value: D) -> Result<i64, D::Error> {
    Ok(Option::deserialize(value)?.unwrap_or(i64::MAX))
}

impl Range {
    pub fn holds(&self, place: &Place) -> bool {
        self.topic == place.topic && self.partition == place.part && (self.from..=self.to).contains(&place.off)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Proto {
    Sse,
    Ndjson,
    Ws,
    Length,
    JsonSeq,
}

/// Which side ended a connection; `reset` if it broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum By {
    Client,
    Server,
    Reset,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    Begin,
    End,
}

/// Records the history, whose size is bounded by the duration, the rate and the number of clients.
pub struct Recorder {
    start: Instant,
    notes: Mutex<Notes>,
}

struct Notes {
    history: Vec<Record>,
    file: Option<BufWriter<File>>,
}

impl Recorder {
    pub fn new(file: Option<&Path>) -> Self {
        let file = file.map(|path| BufWriter::new(File::create(path).expect("the file of HISTORY")));
        Self { start: Instant::now(), notes: Mutex::new(Notes { history: Vec::new(), file }) }
    }

    pub fn note(&self, op: Op) {
        let mut notes = self.notes.lock().unwrap();
        // Under the lock, so that records are in the order of their times.
        let record = Record { t: self.start.elapsed().as_nanos() as u64, op };
        if let Some(file) = &mut notes.file {
            serde_json::to_writer(&mut *file, &record).unwrap();
            file.write_all(b"\n").unwrap();
        }
        notes.history.push(record);
    }

    /// The history so far.
    pub fn take(&self) -> Vec<Record> {
        let mut notes = self.notes.lock().unwrap();
        if let Some(file) = &mut notes.file {
            file.flush().unwrap();
        }
        std::mem::take(&mut notes.history)
    }
}
