//! What happened, in the order it was seen: the one history that everybody writes to and the checker reads.
//!
//! It judges nothing. One recorder stamps all of it, so that times compare. `HISTORY=file` keeps it as JSON lines.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use serde::{Deserialize, Deserializer, Serialize};

pub type Text = Arc<str>;

/// How the `uid` of a fence record begins: the last of its partition for its acl.
pub const FENCE: &str = "fence-";

/// Something that happened, `t` nanoseconds after the recorder was made.
#[derive(Clone, Debug, Serialize)]
pub struct Record {
    pub t: u64,
    #[serde(flatten)]
    pub op: Op,
}

/// `acl` is `tenant/user`: whom a record is for. A client's `scope` is what it may see.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "op", rename_all = "lowercase")]
pub enum Op {
    /// The broker has it.
    Produce {
        #[serde(flatten)]
        place: Place,
        key: Text,
        uid: Text,
        acl: Text,
    },
    /// No answer came: the broker may have it or not.
    #[serde(rename = "produce?")]
    Unsure {
        uid: Text,
    },
    /// Its transaction was aborted: nobody may get it.
    Aborted {
        uid: Text,
    },
    /// A record of the log, as it was read at the end by a consumer that knows nothing of sidestream.
    Log {
        #[serde(flatten)]
        place: Place,
        uid: Text,
        acl: Text,
    },
    /// A stream was asked for and answered. `last` is the cursor sent.
    Open {
        client: usize,
        conn: u32,
        proto: Proto,
        scope: Arc<[Text]>,
        topics: Arc<[Text]>,
        last: Option<Text>,
        status: u16,
    },
    /// A whole frame with an event.
    Recv {
        client: usize,
        conn: u32,
        id: Text,
        uid: Text,
        #[serde(flatten)]
        place: Place,
    },
    /// A client was told of a loss, in the stream or by a 410.
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
    /// A replica ended that nobody asked to.
    Crash {
        replica: usize,
        status: String,
    },
    /// The client has seen every fence that is for it, or will not.
    End {
        client: usize,
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        gave_up: bool,
    },
}

/// Where a record stands in Kafka.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Place {
    pub topic: Text,
    pub part: i32,
    pub off: i64,
}

impl Place {
    /// Of an event id, `topic:partition:offset`.
    pub fn of(id: &str) -> Option<Self> {
        let (rest, off) = id.rsplit_once(':')?;
        let (topic, part) = rest.rsplit_once(':')?;
        Some(Self { topic: topic.into(), part: part.parse().ok()?, off: off.parse().ok()? })
    }
}

/// Offsets of one partition, both ends included, as gaps tell them; an end that is null is none.
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
}

/// Who ended a connection; `reset` where it broke, whoever broke it.
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

/// Takes notes. What is kept is bounded by the run's duration, its rate and its number of clients.
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
        // Under the lock, so that the order of the notes is that of their times.
        let record = Record { t: self.start.elapsed().as_nanos() as u64, op };
        if let Some(file) = &mut notes.file {
            serde_json::to_writer(&mut *file, &record).unwrap();
            file.write_all(b"\n").unwrap();
        }
        notes.history.push(record);
    }

    /// Everything noted so far.
    pub fn take(&self) -> Vec<Record> {
        let mut notes = self.notes.lock().unwrap();
        if let Some(file) = &mut notes.file {
            file.flush().unwrap();
        }
        std::mem::take(&mut notes.history)
    }
}
