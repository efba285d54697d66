//! Files that schemas import without a reference, because Confluent's registry and serializers have them: Google's common
//! types, and types of Confluent.

/// The text of a file.
pub(super) fn text(name: &str) -> Option<&'static str> {
    FILES.iter().find(|(known, _)| *known == name).map(|(_, text)| *text)
}

macro_rules! files {
    ($($name:literal)*) => {
        &[$(($name, include_str!(concat!("imports/", $name)))),*]
    };
}

const FILES: &[(&str, &str)] = files! {
    "confluent/meta.proto"
    "confluent/type/decimal.proto"
    "confluent/type/variant.proto"
    "confluent/types/decimal.proto"
    "google/type/calendar_period.proto"
    "google/type/color.proto"
    "google/type/date.proto"
    "google/type/datetime.proto"
    "google/type/dayofweek.proto"
    "google/type/decimal.proto"
    "google/type/expr.proto"
    "google/type/fraction.proto"
    "google/type/interval.proto"
    "google/type/latlng.proto"
    "google/type/localized_text.proto"
    "google/type/money.proto"
    "google/type/month.proto"
    "google/type/phone_number.proto"
    "google/type/postal_address.proto"
    "google/type/quaternion.proto"
    "google/type/timeofday.proto"
};

#[cfg(test)]
mod tests {
    use super::super::{ProtobufSchema, SchemaText};
    use super::FILES;

    #[test]
    fn every_file_compiles() {
        for (name, _) in FILES {
            let schema = format!("syntax = \"proto3\"; import \"{name}\"; message Order {{}}");
            ProtobufSchema::compile(&SchemaText { schema, references: Vec::new() }).unwrap();
        }
    }
}
