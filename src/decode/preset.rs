//! Mappings for records of common producers.
//!
//! The JSON of Kafka Connect's converter may be wrapped, `{"schema":...,"payload":...}`, in keys as well as in values.
//! Every origin is looked up inside of `payload` first.

use std::sync::Arc;

use super::mapping::{Mapping, Origin, Origins};
use crate::pointer::Pointer;

/// A producer whose records have a known form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preset {
    /// Changes of rows, by Debezium.
    Debezium,
    /// Rows, by a source connector of Kafka Connect.
    Connect,
}

/// The types of Debezium's operations, sorted by operation.
const OPERATIONS: [(&str, &str); 5] =
    [("c", "created"), ("d", "deleted"), ("r", "read"), ("t", "truncated"), ("u", "updated")];
/// Tombstones, which repeat a deletion, and records that are no changes, such as the borders of transactions.
const DROPS: [&str; 2] = ["delete", "message"];
/// The row after a change, and the row before it: a deletion has no row after it.
const ROWS: [&str; 2] = ["after", "before"];
const WRAPPER: &str = "payload";

impl Preset {
    /// The origins of a field of the row.
    pub fn field(self, name: &str) -> Origins {
        match self {
            Self::Debezium => {
                let rows = ROWS.iter().flat_map(|row| in_value(&[row, name]));
                Origins(rows.chain(in_key(name)).collect())
            }
            Self::Connect => Origins(in_value(&[name]).into_iter().chain(in_key(name)).collect()),
        }
    }

    /// The mapping for these keys, sorted by name. A key is a field of the row.
    pub fn mapping(self, keys: impl IntoIterator<Item = Arc<str>>) -> Mapping {
        let keys = keys.into_iter().map(|name| (name.clone(), self.field(&name)));
        match self {
            Self::Debezium => {
                let ts = in_value(&["source", "ts_ms"]).into_iter().chain(in_value(&["ts_ms"]));
                Mapping {
                    types: OPERATIONS.iter().map(|(found, kind)| (Box::from(*found), Box::from(*kind))).collect(),
                    drop: DROPS.iter().map(|kind| Box::from(*kind)).collect(),
                    data: Some(Origins(ROWS.iter().flat_map(|row| in_value(&[row])).collect())),
                    ..Mapping::new(Origins(in_value(&["op"]).into()), Origins(ts.collect()), keys)
                }
            }
            Self::Connect => Mapping {
                data: Some(Origins([pointer(&[WRAPPER]), Origin::Value].into())),
                ..Mapping::new(Origins(in_value(&["type"]).into()), Origins(in_value(&["ts"]).into()), keys)
            },
        }
    }
}

/// A place in the value, wrapped or not.
fn in_value(path: &[&str]) -> [Origin; 2] {
    [pointer(&[&[WRAPPER], path].concat()), pointer(path)]
}

/// A field of the record's key, wrapped or not.
fn in_key(name: &str) -> [Origin; 2] {
    [tokens(&[WRAPPER, name]), tokens(&[name])].map(Origin::InKey)
}

fn pointer(path: &[&str]) -> Origin {
    Origin::Pointer(tokens(path))
}

fn tokens(path: &[&str]) -> Pointer {
    path.iter().map(|token| Box::from(*token)).collect()
}
