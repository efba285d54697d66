//! An Avro body as JSON text. Depth and length are limited; every value of a body writes at least a byte of JSON, so that
//! the length limits the time, too.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::{AvroSchema, Index, SCALE_MAX, Type, logical};
use crate::decode::registered::InvalidBody;
use crate::decode::{DEPTH_MAX, RECORD_BYTES_MAX};

/// The most bytes of a decimal: converting to text takes a time that is quadratic in them.
const DECIMAL_BYTES_MAX: usize = 1024;

pub(super) fn json(schema: &AvroSchema, body: &[u8]) -> Result<String, InvalidBody> {
    let mut reader = Reader { types: &schema.types, rest: body, out: Vec::with_capacity(2 * body.len()) };
    reader.value(schema.root, 0)?;
    if !reader.rest.is_empty() {
        return Err(InvalidBody::new(format!("{} bytes follow its end", reader.rest.len())));
    }
    String::from_utf8(reader.out).map_err(|_| InvalidBody::new("a text is not UTF-8"))
}

struct Reader<'a> {
    types: &'a [Type],
    rest: &'a [u8],
    out: Vec<u8>,
}

impl<'a> Reader<'a> {
    fn value(&mut self, index: Index, depth: usize) -> Result<(), InvalidBody> {
        let types = self.types;
        match &types[index] {
            Type::Null => self.write("null"),
            Type::Boolean => {
                let text = match self.take(1)? {
                    [0] => "false",
                    [1] => "true",
                    _ => return Err(InvalidBody::new("a boolean is neither 0 nor 1")),
                };
                self.write(text);
            }
            Type::Number => {
                let number = self.number()?;
                self.write(&number.to_string());
            }
            Type::Float => {
                let number = f32::from_le_bytes(self.array()?);
                self.float(number.is_finite(), number)?;
            }
            Type::Double => {
                let number = f64::from_le_bytes(self.array()?);
                self.float(number.is_finite(), number)?;
            }
            Type::Bytes => {
                let bytes = self.with_length()?;
                self.base64(bytes);
            }
            Type::Text => self.text()?,
            Type::Fixed(size) => {
                let bytes = self.take(*size)?;
                self.base64(bytes);
            }
            Type::Enum(symbols) => {
                let symbol = self.index()?.and_then(|index| symbols.get(index));
                let symbol = symbol.ok_or_else(|| InvalidBody::new("there is no such symbol of the enum"))?;
                self.string(symbol)?;
            }
            Type::Union(variants) => {
                let variant = self.index()?.and_then(|index| variants.get(index));
                let variant = *variant.ok_or_else(|| InvalidBody::new("there is no such branch of the union"))?;
                // A union without null may contain itself by a record only.
                self.value(variant, depth)?;
            }
            Type::Array(items) => self.items(*items, below(depth)?)?,
            Type::Map(values) => self.entries(*values, below(depth)?)?,
            Type::Record(fields) => {
                let depth = below(depth)?;
                self.write("{");
                for (n, field) in fields.iter().enumerate() {
                    self.name(n, &field.name)?;
                    self.value(field.kind, depth).map_err(|error| error.below(field.name.clone()))?;
                }
                self.write("}");
            }
            logical => {
                let text = self.logical(logical)?;
                self.write(&text);
            }
        }
        if self.out.len() > RECORD_BYTES_MAX {
            return Err(InvalidBody::new(format!("it is longer than {RECORD_BYTES_MAX} bytes as JSON")));
        }
        Ok(())
    }

    /// The JSON text of a logical type.
    fn logical(&mut self, kind: &Type) -> Result<String, InvalidBody> {
        let text = match kind {
            Type::Decimal { size, scale } => {
                let bytes = match size {
                    Some(size) => self.take(*size)?,
                    None => self.with_length()?,
                };
                logical::decimal(short_decimal(bytes)?, *scale)
            }
            Type::BigDecimal => {
                let mut inner = Reader { types: self.types, rest: self.with_length()?, out: Vec::new() };
                let unscaled = short_decimal(inner.with_length()?)?;
                let scale = usize::try_from(inner.number()?).ok().filter(|scale| *scale <= SCALE_MAX);
                let scale = scale.ok_or_else(|| InvalidBody::new("the scale of a decimal is out of range"))?;
                logical::decimal(unscaled, scale)
            }
            Type::Uuid { is_fixed } => {
                let bytes = if *is_fixed { self.take(16)? } else { self.with_length()? };
                logical::uuid(bytes).ok_or_else(|| InvalidBody::new("a UUID does not have 16 bytes"))?
            }
            Type::Date => logical::date(self.number()?),
            Type::Time(digits) => logical::time_of_day(self.number()?, *digits),
            Type::Timestamp { digits, is_local } => logical::timestamp(self.number()?, *digits, *is_local),
            // The others are not logical types.
            _ => logical::duration(self.array()?),
        };
        Ok(text)
    }

    fn items(&mut self, items: Index, depth: usize) -> Result<(), InvalidBody> {
        self.write("[");
        let mut n = 0;
        while let Some(count) = self.block()? {
            for _ in 0..count {
                if n > 0 {
                    self.write(",");
                }
                self.value(items, depth).map_err(|error| error.below(n.to_string()))?;
                n += 1;
            }
        }
        self.write("]");
        Ok(())
    }

    fn entries(&mut self, values: Index, depth: usize) -> Result<(), InvalidBody> {
        self.write("{");
        let mut n = 0;
        while let Some(count) = self.block()? {
            for _ in 0..count {
                if n > 0 {
                    self.write(",");
                }
                self.text()?;
                self.write(":");
                // The key is a part of the body.
                self.value(values, depth).map_err(|error| error.below("*"))?;
                n += 1;
            }
        }
        self.write("}");
        Ok(())
    }

    /// The number of items in the next block; `None` after the last one.
    fn block(&mut self) -> Result<Option<u64>, InvalidBody> {
        let count = self.number()?;
        if count < 0 {
            // The size of the block in bytes.
            self.number()?;
        }
        Ok(Some(count.unsigned_abs()).filter(|count| *count > 0))
    }

    /// A number of 64 bits: zigzag, in groups of 7 bits, the lowest first.
    fn number(&mut self) -> Result<i64, InvalidBody> {
        const BYTES_MAX: usize = 10;
        let end = self.rest.iter().take(BYTES_MAX).position(|byte| byte & 0x80 == 0);
        let bytes = self.take(end.ok_or_else(|| InvalidBody::new("a number has no end"))? + 1)?;
        let number = bytes.iter().rev().fold(0_u64, |number, byte| number << 7 | u64::from(byte & 0x7f));
        Ok((number >> 1) as i64 ^ -((number & 1) as i64))
    }

    fn index(&mut self) -> Result<Option<usize>, InvalidBody> {
        Ok(usize::try_from(self.number()?).ok())
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], InvalidBody> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or_else(|| InvalidBody::new("it is cut off"))?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], InvalidBody> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or_else(|| InvalidBody::new("it is cut off"))?;
        self.rest = rest;
        Ok(*taken)
    }

    fn with_length(&mut self) -> Result<&'a [u8], InvalidBody> {
        let length = self.index()?.ok_or_else(|| InvalidBody::new("a length is negative"))?;
        self.take(length)
    }

    fn text(&mut self) -> Result<(), InvalidBody> {
        let text = std::str::from_utf8(self.with_length()?);
        self.string(text.map_err(|_| InvalidBody::new("a text is not UTF-8"))?)
    }

    /// JSON has no numbers for infinities and NaN.
    fn float(&mut self, is_finite: bool, number: impl serde::Serialize + std::fmt::Display) -> Result<(), InvalidBody> {
        if is_finite { self.serialize(&number) } else { self.string(&number.to_string()) }
    }

    fn string(&mut self, text: &str) -> Result<(), InvalidBody> {
        self.serialize(text)
    }

    fn serialize(&mut self, value: &(impl serde::Serialize + ?Sized)) -> Result<(), InvalidBody> {
        serde_json::to_writer(&mut self.out, value).map_err(|error| InvalidBody::new(error.to_string()))
    }

    fn base64(&mut self, bytes: &[u8]) {
        self.write("\"");
        self.write(&STANDARD.encode(bytes));
        self.write("\"");
    }

    fn name(&mut self, n: usize, name: &str) -> Result<(), InvalidBody> {
        if n > 0 {
            self.write(",");
        }
        self.string(name)?;
        self.write(":");
        Ok(())
    }

    fn write(&mut self, json: &str) {
        self.out.extend_from_slice(json.as_bytes());
    }
}

/// The depth inside of an array, a map or a record.
fn below(depth: usize) -> Result<usize, InvalidBody> {
    if depth == DEPTH_MAX {
        return Err(InvalidBody::new(format!("it is nested deeper than {DEPTH_MAX}")));
    }
    Ok(depth + 1)
}

fn short_decimal(bytes: &[u8]) -> Result<&[u8], InvalidBody> {
    let is_short = bytes.len() <= DECIMAL_BYTES_MAX;
    is_short
        .then_some(bytes)
        .ok_or_else(|| InvalidBody::new(format!("a decimal has more than {DECIMAL_BYTES_MAX} bytes")))
}
