//! The kinds of values: how each is read from the file, described to users, and described in the JSON Schema.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use serde_json::{Value as Json, json};

use super::Table;
use crate::config::diagnostic::alternatives;
use crate::config::file::Value;
use crate::config::section::text;
use crate::config::units::{parse_duration, parse_size, write_duration, write_size};

/// Whether a value may be a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::config) enum Secrecy {
    Open,
    /// It names the file of a secret. Messages do not quote it, because the secret may be written in its place.
    File,
    /// It may be a secret itself.
    Secret,
}

/// A kind of values.
pub(in crate::config) trait Kind: Sync {
    /// A value, such as a default.
    type Value;

    /// The type in the reference, with the range.
    fn type_name(&self) -> String;

    fn schema(&self) -> Json;

    /// The value as a user writes it.
    fn write(&self, value: &Self::Value) -> Json;

    fn secrecy(&self) -> Secrecy {
        Secrecy::Open
    }

    /// The keys below.
    fn table(&self) -> Option<&'static Table> {
        None
    }
}

/// A kind whose values the compiler uses as they are read.
pub(in crate::config) trait Scalar: Kind {
    /// What a diagnostic expects.
    fn expected(&self) -> String;

    /// `None` if the value is invalid.
    fn read(&self, value: &Value) -> Option<Self::Value>;
}

pub(in crate::config) const fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

pub(in crate::config) const fn secs(count: u64) -> Duration {
    Duration::from_secs(count)
}

pub(in crate::config) const fn mins(count: u64) -> Duration {
    Duration::from_secs(count * 60)
}

pub(in crate::config) const fn hours(count: u64) -> Duration {
    Duration::from_secs(count * 60 * 60)
}

/// A duration.
pub(in crate::config) struct Period(pub(in crate::config) RangeInclusive<Duration>);

impl Period {
    fn bounds(&self) -> [String; 2] {
        [*self.0.start(), *self.0.end()].map(write_duration)
    }
}

impl Kind for Period {
    type Value = Duration;

    fn type_name(&self) -> String {
        format!("duration, {}", self.bounds().join(" to "))
    }

    fn schema(&self) -> Json {
        json!({ "$ref": "#/$defs/duration" })
    }

    fn write(&self, value: &Duration) -> Json {
        json!(write_duration(*value))
    }
}

impl Scalar for Period {
    fn expected(&self) -> String {
        let [low, high] = self.bounds();
        format!("a duration with its unit (ms, s, m, h) between {low} and {high}")
    }

    fn read(&self, value: &Value) -> Option<Duration> {
        parse_duration(text(value)?).filter(|duration| self.0.contains(duration))
    }
}

/// A size in bytes.
pub(in crate::config) struct Size(pub(in crate::config) RangeInclusive<u64>);

impl Size {
    fn bounds(&self) -> [String; 2] {
        [*self.0.start(), *self.0.end()].map(write_size)
    }
}

impl Kind for Size {
    type Value = usize;

    fn type_name(&self) -> String {
        format!("size, {}", self.bounds().join(" to "))
    }

    fn schema(&self) -> Json {
        json!({ "$ref": "#/$defs/size" })
    }

    fn write(&self, value: &usize) -> Json {
        json!(write_size(*value as u64))
    }
}

impl Scalar for Size {
    fn expected(&self) -> String {
        let [low, high] = self.bounds();
        format!("a size (bytes, or with KiB, MiB, GiB, KB, MB, GB) between {low} and {high}")
    }

    fn read(&self, value: &Value) -> Option<usize> {
        let bytes = match value {
            Value::Integer(number) => u64::try_from(*number).ok()?,
            _ => parse_size(text(value)?)?,
        };
        usize::try_from(bytes).ok().filter(|_| self.0.contains(&bytes))
    }
}

/// A plain number.
pub(in crate::config) struct Count(pub(in crate::config) RangeInclusive<u32>);

impl Kind for Count {
    type Value = u32;

    fn type_name(&self) -> String {
        format!("{} to {}", self.0.start(), self.0.end())
    }

    fn schema(&self) -> Json {
        json!({ "type": "integer", "minimum": self.0.start(), "maximum": self.0.end() })
    }

    fn write(&self, value: &u32) -> Json {
        json!(value)
    }
}

impl Scalar for Count {
    fn expected(&self) -> String {
        format!("a whole number between {} and {}", self.0.start(), self.0.end())
    }

    fn read(&self, value: &Value) -> Option<u32> {
        match value {
            Value::Integer(number) => u32::try_from(*number).ok().filter(|number| self.0.contains(number)),
            _ => None,
        }
    }
}

/// `true` or `false`.
pub(in crate::config) struct Flag;

impl Kind for Flag {
    type Value = bool;

    fn type_name(&self) -> String {
        "flag".into()
    }

    fn schema(&self) -> Json {
        json!({ "type": "boolean" })
    }

    fn write(&self, value: &bool) -> Json {
        json!(value)
    }
}

impl Scalar for Flag {
    fn expected(&self) -> String {
        "`true` or `false`".into()
    }

    fn read(&self, value: &Value) -> Option<bool> {
        match value {
            Value::Flag(flag) => Some(*flag),
            _ => None,
        }
    }
}

/// A number between 0 and 1.
pub(in crate::config) struct Share;

impl Kind for Share {
    type Value = f64;

    fn type_name(&self) -> String {
        "0 to 1".into()
    }

    fn schema(&self) -> Json {
        json!({ "type": "number", "minimum": 0, "maximum": 1 })
    }

    fn write(&self, value: &f64) -> Json {
        json!(value)
    }
}

impl Scalar for Share {
    fn expected(&self) -> String {
        "a number between 0 and 1".into()
    }

    fn read(&self, value: &Value) -> Option<f64> {
        match value {
            Value::Integer(0) => Some(0.0),
            Value::Integer(1) => Some(1.0),
            Value::Fraction(share) => Some(*share).filter(|share| (0.0..=1.0).contains(share)),
            _ => None,
        }
    }
}

/// An address to listen on; port 0 selects a free one.
pub(in crate::config) struct Address;

impl Kind for Address {
    type Value = SocketAddr;

    fn type_name(&self) -> String {
        "address".into()
    }

    fn schema(&self) -> Json {
        json!({ "$ref": "#/$defs/address" })
    }

    fn write(&self, value: &SocketAddr) -> Json {
        json!(value)
    }
}

impl Scalar for Address {
    fn expected(&self) -> String {
        "an IP address and a port such as `0.0.0.0:8080`".into()
    }

    fn read(&self, value: &Value) -> Option<SocketAddr> {
        text(value)?.parse().ok()
    }
}

/// A value from a fixed set, by its names. The first name of a value is the one that is written out.
pub(in crate::config) struct Choice<T>(pub(in crate::config) fn() -> Vec<(&'static str, T)>);

impl<T: Copy + PartialEq> Kind for Choice<T> {
    type Value = T;

    fn type_name(&self) -> String {
        let names: Vec<String> = (self.0)().iter().map(|(name, _)| format!("`{name}`")).collect();
        names.join(", ")
    }

    fn schema(&self) -> Json {
        json!({ "enum": (self.0)().iter().map(|(name, _)| *name).collect::<Vec<_>>() })
    }

    fn write(&self, value: &T) -> Json {
        let choices = (self.0)();
        json!(choices.iter().find(|(_, choice)| choice == value).map(|(name, _)| *name))
    }
}

impl<T: Copy + PartialEq> Scalar for Choice<T> {
    fn expected(&self) -> String {
        alternatives((self.0)().iter().map(|(name, _)| *name))
    }

    fn read(&self, value: &Value) -> Option<T> {
        let written = text(value)?;
        (self.0)().into_iter().find(|(name, _)| *name == written).map(|(_, choice)| choice)
    }
}

/// A text, which the compiler checks.
pub(in crate::config) struct Text {
    pub(in crate::config) type_name: &'static str,
    /// A regular expression of the JSON Schema; empty for any text.
    pub(in crate::config) pattern: &'static str,
    pub(in crate::config) expected: &'static str,
}

impl Kind for Text {
    type Value = &'static str;

    fn type_name(&self) -> String {
        self.type_name.into()
    }

    fn schema(&self) -> Json {
        string(self.pattern)
    }

    fn write(&self, value: &&'static str) -> Json {
        json!(value)
    }
}

/// The schema of a string.
pub(super) fn string(pattern: &str) -> Json {
    if pattern.is_empty() { json!({ "type": "string" }) } else { json!({ "type": "string", "pattern": pattern }) }
}

/// The name of a file with a secret.
pub(in crate::config) struct SecretFile;

impl Kind for SecretFile {
    type Value = &'static str;

    fn type_name(&self) -> String {
        "file".into()
    }

    fn schema(&self) -> Json {
        json!({ "type": "string", "minLength": 1 })
    }

    fn write(&self, value: &&'static str) -> Json {
        json!(value)
    }

    fn secrecy(&self) -> Secrecy {
        Secrecy::File
    }
}
