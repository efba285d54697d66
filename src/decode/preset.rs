//! Mappings for records of common producers.
//!
//! The JSON of Kafka Connect's converter may be wrapped, in keys as well as in values. A preset decides once for each
//! value and each key whether it is wrapped, and once for each value which row it has. Everything else is looked up there
//! only: a row could have fields of any name.

use std::sync::Arc;

use serde_json::value::RawValue;

use super::mapping::{Mapping, Origin, Origins};
use crate::pointer::{Pointer, member, members};

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

impl Preset {
    /// The mapping for these keys, sorted by name. A key is a field of the row.
    pub fn mapping(self, keys: impl IntoIterator<Item = Arc<str>>) -> Mapping {
        let keys = keys.into_iter().map(|name| (name.clone(), Origin::InRow(Box::from(&*name)).into()));
        let mapping = match self {
            Self::Debezium => {
                let ts = [Origin::Pointer(pointer(&["source", "ts_ms"])), Origin::field("ts_ms")];
                Mapping {
                    types: OPERATIONS.iter().map(|(found, kind)| (Box::from(*found), Box::from(*kind))).collect(),
                    drop: DROPS.iter().map(|kind| Box::from(*kind)).collect(),
                    ..Mapping::new(Origin::field("op").into(), Origins(ts.into()), keys)
                }
            }
            Self::Connect => Mapping::new(Origin::field("type").into(), Origin::field("ts").into(), keys),
        };
        Mapping { preset: Some(self), ..mapping }
    }

    /// The row of an unwrapped value. Debezium has two of an update: only the one after it counts, so that no field is
    /// taken from a row that is replaced.
    pub(super) fn row(self, value: &RawValue) -> Option<&RawValue> {
        let is_row = |row: &&RawValue| row.get() != "null";
        match self {
            Self::Debezium => ROWS.iter().filter_map(|row| member(value.get(), row).ok().flatten()).find(is_row),
            Self::Connect => Some(value).filter(is_row),
        }
    }
}

/// The payload of the converter's wrapper, an object with exactly the members `schema` and `payload`; or else the value.
pub(super) fn unwrapped(value: &RawValue) -> &RawValue {
    let (mut count, mut has_schema, mut payload) = (0, false, None);
    let read = members(value.get(), |name, member| {
        count += 1;
        match &*name {
            "schema" => has_schema = true,
            "payload" => payload = Some(member),
            _ => {}
        }
    });
    payload.filter(|_| read.is_ok() && has_schema && count == 2).unwrap_or(value)
}

fn pointer(path: &[&str]) -> Pointer {
    path.iter().map(|token| Box::from(*token)).collect()
}
