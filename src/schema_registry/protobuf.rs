//! Protobuf schemas: compiled once from their text or their serialized descriptor, then applied to bodies. JSON follows the ProtoJSON mapping, with the
//! fields that have their default value.

mod imports;

use std::collections::HashMap;
use std::io;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use prost_reflect::prost::Message;
use prost_reflect::prost_types::FileDescriptorProto;
use prost_reflect::{DynamicMessage, FileDescriptor, MessageDescriptor, SerializeOptions};
use protox::Compiler;
use protox::file::{File, FileResolver, GoogleFileResolver};
use serde_json::Serializer;
use serde_json::ser::Formatter;

use super::SchemaText;
use crate::decode::registered::{InvalidBody, MessageIndexes, WriterSchema};
use crate::decode::{DEPTH_MAX, RECORD_BYTES_MAX};

/// The longest body, in bytes: the default limit of brokers for a record. It is held as a tree of values, which takes
/// many times its bytes.
const PROTOBUF_BYTES_MAX: usize = 1024 * 1024;
/// The deepest nesting of brackets in a schema's text: its parser recurses.
const NESTING_MAX: usize = 100;
/// The name of the schema's own file: no import has it.
const ROOT: &str = "sidestream-root.proto";

#[derive(Debug)]
pub(super) struct ProtobufSchema {
    file: FileDescriptor,
    /// Whether a message has a map, whose order is not defined.
    has_maps: bool,
}

impl ProtobufSchema {
    /// Compiles a schema with its references.
    ///
    /// # Errors
    ///
    /// The first error.
    pub(super) fn compile(text: &SchemaText) -> Result<Self, String> {
        let root = (ROOT, text.schema.as_str());
        let references = text.references.iter().map(|(name, text)| (name.as_str(), text.as_str()));
        let files: HashMap<&str, &str> = references.chain([root]).collect();
        if files.values().any(|text| nesting(text) > NESTING_MAX) {
            return Err(format!("it is nested deeper than {NESTING_MAX}"));
        }
        let files = files.into_iter().map(|(name, text)| (name.to_owned(), text.to_owned())).collect();
        let mut compiler = Compiler::with_file_resolver(Files(files));
        compiler.open_file(ROOT).map_err(|error| error.to_string())?;
        let pool = compiler.descriptor_pool();
        let file = pool.get_file_by_name(ROOT).ok_or("it has no file")?;
        let has_maps = pool.all_messages().any(|message| message.is_map_entry());
        Ok(Self { file, has_maps })
    }

    /// The indexes do not count the entries of maps, which are messages in descriptors only.
    fn message(&self, indexes: &MessageIndexes) -> Option<MessageDescriptor> {
        let (first, nested) = indexes.split_first()?;
        let mut message = self.file.messages().nth(*first as usize)?;
        for index in nested {
            let inner = message.child_messages().filter(|child| !child.is_map_entry()).nth(*index as usize)?;
            message = inner;
        }
        Some(message)
    }
}

impl WriterSchema for ProtobufSchema {
    fn json(&self, message: &MessageIndexes, body: &[u8]) -> Result<String, InvalidBody> {
        if body.len() > PROTOBUF_BYTES_MAX {
            return Err(InvalidBody::new(format!("it is longer than {PROTOBUF_BYTES_MAX} bytes")));
        }
        let unknown = || InvalidBody::new(format!("the schema has no message with the indexes {message:?}"));
        let descriptor = self.message(message).ok_or_else(unknown)?;
        let message = DynamicMessage::decode(descriptor, body).map_err(|error| InvalidBody::new(error.to_string()))?;
        let mut json = Bounded(Vec::with_capacity(2 * body.len()));
        let options = SerializeOptions::new().skip_default_fields(false);
        message
            .serialize_with_options(&mut Serializer::with_formatter(&mut json, Shallow(0)), &options)
            .map_err(|error| InvalidBody::new(error.to_string()))?;
        let text = String::from_utf8(json.0).map_err(|_| InvalidBody::new("a text is not UTF-8"))?;
        if self.has_maps { sorted(&text) } else { Ok(text) }
    }
}

/// The same JSON with sorted members.
fn sorted(text: &str) -> Result<String, InvalidBody> {
    let value: Result<serde_json::Value, _> = serde_json::from_str(text);
    let mut value = value.map_err(|error| InvalidBody::new(error.to_string()))?;
    value.sort_all_objects();
    Ok(value.to_string())
}

/// The deepest nesting of brackets, also of those in texts and comments.
fn nesting(text: &str) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    for byte in text.bytes() {
        match byte {
            b'{' | b'[' | b'(' | b'<' => depth += 1,
            b'}' | b']' | b')' | b'>' => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    deepest
}

/// The files of a schema by the names of their imports, and those that come with Protobuf and with registries.
struct Files(HashMap<String, String>);

impl FileResolver for Files {
    fn resolve_path(&self, path: &Path) -> Option<String> {
        path.to_str().map(str::to_owned)
    }

    fn open_file(&self, name: &str) -> Result<File, protox::Error> {
        if let Some(text) = self.0.get(name) {
            return descriptor(name, text).map_or_else(|| File::from_source(name, text), Ok);
        }
        match imports::text(name) {
            Some(text) => File::from_source(name, text),
            None => GoogleFileResolver::new().open_file(name),
        }
    }
}

/// The file of a serialized descriptor in Base64: Python's serializer registers it in place of a text, and Apicurio
/// returns what was registered. prost limits its nesting.
fn descriptor(name: &str, text: &str) -> Option<File> {
    let bytes = STANDARD.decode(text.trim()).ok()?;
    let mut file = FileDescriptorProto::decode(&bytes[..]).ok()?;
    file.name = Some(name.to_owned());
    Some(File::from_file_descriptor_proto(file))
}

/// Limits the length of the text.
struct Bounded(Vec<u8>);

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > RECORD_BYTES_MAX {
            return Err(io::Error::other(format!("it is longer than {RECORD_BYTES_MAX} bytes as JSON")));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Limits the depth of the text: a `google.protobuf.Any` may contain another one.
struct Shallow(usize);

impl Shallow {
    fn enter(&mut self) -> io::Result<()> {
        if self.0 == DEPTH_MAX {
            return Err(io::Error::other(format!("it is nested deeper than {DEPTH_MAX}")));
        }
        self.0 += 1;
        Ok(())
    }
}

impl Formatter for Shallow {
    fn begin_object<W: io::Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        self.enter()?;
        writer.write_all(b"{")
    }

    fn end_object<W: io::Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0 -= 1;
        writer.write_all(b"}")
    }

    fn begin_array<W: io::Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        self.enter()?;
        writer.write_all(b"[")
    }

    fn end_array<W: io::Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0 -= 1;
        writer.write_all(b"]")
    }
}

#[cfg(test)]
#[path = "protobuf_tests.rs"]
mod tests;
