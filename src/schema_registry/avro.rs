//! Avro schemas: compiled once, then applied to bodies.
//!
//! apache-avro parses the schema. Its own reader of bodies has no limit of depth, and builds a tree of values; [`reader`]
//! writes JSON directly, within limits.

mod logical;
mod reader;
mod references;

use std::collections::HashMap;

use apache_avro::schema::{
    DecimalSchema, InnerDecimalSchema, Name, NamespaceRef, RecordSchema, Schema as Parsed, UuidSchema,
};

use super::SchemaText;
use crate::decode::registered::{InvalidBody, MessageIndexes, WriterSchema};

/// The most fractional digits of a decimal.
const SCALE_MAX: usize = 1000;

/// The index of a type in its schema.
type Index = usize;

/// A compiled schema. Named types refer to each other by index, so that they may be recursive.
#[derive(Debug)]
pub(super) struct AvroSchema {
    types: Vec<Type>,
    root: Index,
}

#[derive(Debug)]
enum Type {
    Null,
    Boolean,
    /// `int` and `long`: their encodings are the same.
    Number,
    Float,
    Double,
    Bytes,
    /// Also the logical type `uuid` of a string.
    Text,
    Fixed(usize),
    Enum(Box<[Box<str>]>),
    Array(Index),
    Map(Index),
    Union(Box<[Index]>),
    Record(Box<[Field]>),
    /// Without a size, its length precedes it.
    Decimal {
        size: Option<usize>,
        scale: usize,
    },
    BigDecimal,
    /// 16 bytes; unless they are fixed, their length precedes them.
    Uuid {
        is_fixed: bool,
    },
    Date,
    /// A time of day with this many fractional digits.
    Time(u8),
    /// A time since the Unix epoch with this many fractional digits.
    Timestamp {
        digits: u8,
        is_local: bool,
    },
    Duration,
}

#[derive(Debug)]
struct Field {
    name: Box<str>,
    kind: Index,
}

impl AvroSchema {
    /// Compiles a schema with its references. Recursion is at most as deep as the nesting of the JSON text, which
    /// serde_json limits.
    ///
    /// # Errors
    ///
    /// The first error.
    pub(super) fn compile(text: &SchemaText) -> Result<Self, String> {
        let references = references::named_types(text.references.iter().map(|(_, text)| text.as_str()))?;
        let (root, referenced) =
            Parsed::parse_str_with_list(&text.schema, references).map_err(|error| error.to_string())?;
        let mut compiler = Compiler { definitions: HashMap::new(), known: HashMap::new(), types: Vec::new() };
        referenced.iter().chain([&root]).for_each(|schema| compiler.define(schema, None));
        let root = compiler.compile(&root, None)?;
        Ok(Self { types: compiler.types, root })
    }
}

impl WriterSchema for AvroSchema {
    fn json(&self, _: &MessageIndexes, body: &[u8]) -> Result<String, InvalidBody> {
        reader::json(self, body)
    }
}

struct Compiler<'a> {
    definitions: HashMap<Name, &'a Parsed>,
    known: HashMap<Name, Index>,
    types: Vec<Type>,
}

impl<'a> Compiler<'a> {
    /// Notes the named types that a schema defines, within this namespace.
    fn define(&mut self, schema: &'a Parsed, namespace: NamespaceRef<'_>) {
        if let Some(name) = schema.name().filter(|_| !matches!(schema, Parsed::Ref { .. })) {
            self.definitions.entry(name.fully_qualified_name(namespace).into_owned()).or_insert(schema);
        }
        match schema {
            Parsed::Array(array) => self.define(&array.items, namespace),
            Parsed::Map(map) => self.define(&map.types, namespace),
            Parsed::Union(union) => union.variants().iter().for_each(|schema| self.define(schema, namespace)),
            Parsed::Record(record) => {
                let name = record.name.fully_qualified_name(namespace);
                record.fields.iter().for_each(|field| self.define(&field.schema, name.namespace()));
            }
            _ => {}
        }
    }

    fn compile(&mut self, schema: &'a Parsed, namespace: NamespaceRef<'_>) -> Result<Index, String> {
        let kind = match schema {
            Parsed::Null => Type::Null,
            Parsed::Boolean => Type::Boolean,
            Parsed::Int | Parsed::Long => Type::Number,
            Parsed::Float => Type::Float,
            Parsed::Double => Type::Double,
            Parsed::Bytes => Type::Bytes,
            Parsed::String | Parsed::Uuid(UuidSchema::String) => Type::Text,
            Parsed::Array(array) => Type::Array(self.compile(&array.items, namespace)?),
            Parsed::Map(map) => Type::Map(self.compile(&map.types, namespace)?),
            Parsed::Union(union) => {
                let variants = union.variants().iter().map(|variant| self.compile(variant, namespace));
                Type::Union(variants.collect::<Result<_, _>>()?)
            }
            Parsed::Record(record) => return self.record(record, namespace),
            Parsed::Enum(symbols) => Type::Enum(symbols.symbols.iter().map(|symbol| symbol.as_str().into()).collect()),
            Parsed::Fixed(fixed) => Type::Fixed(fixed.size),
            Parsed::Decimal(decimal) => decimal_type(decimal)?,
            Parsed::BigDecimal => Type::BigDecimal,
            Parsed::Uuid(UuidSchema::Bytes) => Type::Uuid { is_fixed: false },
            Parsed::Uuid(UuidSchema::Fixed(_)) => Type::Uuid { is_fixed: true },
            Parsed::Date => Type::Date,
            Parsed::TimeMillis => Type::Time(3),
            Parsed::TimeMicros => Type::Time(6),
            Parsed::TimestampMillis => Type::Timestamp { digits: 3, is_local: false },
            Parsed::TimestampMicros => Type::Timestamp { digits: 6, is_local: false },
            Parsed::TimestampNanos => Type::Timestamp { digits: 9, is_local: false },
            Parsed::LocalTimestampMillis => Type::Timestamp { digits: 3, is_local: true },
            Parsed::LocalTimestampMicros => Type::Timestamp { digits: 6, is_local: true },
            Parsed::LocalTimestampNanos => Type::Timestamp { digits: 9, is_local: true },
            Parsed::Duration(_) => Type::Duration,
            Parsed::Ref { name } => return self.named(&name.fully_qualified_name(namespace)),
        };
        Ok(self.add(kind))
    }

    fn add(&mut self, kind: Type) -> Index {
        self.types.push(kind);
        self.types.len() - 1
    }

    fn named(&mut self, name: &Name) -> Result<Index, String> {
        if let Some(index) = self.known.get(name) {
            return Ok(*index);
        }
        let definition = *self.definitions.get(name).ok_or_else(|| format!("`{name}` is not defined"))?;
        // Its own name, if it has no namespace, is in that of the reference.
        let index = self.compile(definition, name.namespace())?;
        self.known.insert(name.clone(), index);
        Ok(index)
    }

    fn record(&mut self, record: &'a RecordSchema, namespace: NamespaceRef<'_>) -> Result<Index, String> {
        let name = record.name.fully_qualified_name(namespace).into_owned();
        if let Some(index) = self.known.get(&name) {
            return Ok(*index);
        }
        // Its fields may refer to it.
        let index = self.add(Type::Null);
        self.known.insert(name.clone(), index);
        let mut fields = Vec::with_capacity(record.fields.len());
        for field in &record.fields {
            let kind = self.compile(&field.schema, name.namespace())?;
            fields.push(Field { name: field.name.as_str().into(), kind });
        }
        self.types[index] = Type::Record(fields.into());
        Ok(index)
    }
}

fn decimal_type(decimal: &DecimalSchema) -> Result<Type, String> {
    let scale = decimal.scale;
    if scale > SCALE_MAX {
        return Err(format!("a decimal has more than {SCALE_MAX} fractional digits"));
    }
    Ok(match &decimal.inner {
        InnerDecimalSchema::Bytes => Type::Decimal { size: None, scale },
        InnerDecimalSchema::Fixed(fixed) => Type::Decimal { size: Some(fixed.size), scale },
    })
}

#[cfg(test)]
#[path = "avro_tests.rs"]
mod tests;
