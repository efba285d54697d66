//! The keys of clusters.

use super::Change::Restart;
use super::{Defaulted, Flag, Is, Key, Map, Period, Required, Secrecy, Text, mins, ms, secs, table};

table! { CLUSTER {
    BROKERS: Key<Text, Required> = (
        "brokers",
        Text {
            type_name: "`host:port`, comma-separated",
            pattern: r"^\S.*$",
            expected: "`host:port`, or several with commas between",
        },
        Required("the `host:port` of one or more brokers, with commas between"), Restart, "bootstrap servers",
    );
    PROPERTIES: Defaulted<Map> = (
        "properties",
        Map {
            values: r#"{ "type": ["string", "integer", "boolean"] }"#,
            expected: "a text, whole number or flag",
            secrecy: Secrecy::Secret,
        },
        Is(()), Restart,
        "any librdkafka property, such as `security.protocol`, except those that the source depends on. Values are never shown",
    );
    PROPERTY_FILES: Defaulted<Map> = (
        "property_files",
        Map { values: r#"{ "type": "string", "minLength": 1 }"#, expected: "the name of a file", secrecy: Secrecy::File },
        Is(()), Restart,
        "properties whose value is the content of a file, without its final line break: for secrets. sidestream checks them \
         at start and reads them again for every new client, so that a corrected secret takes effect without a restart",
    );
}}

table! { KAFKA includes CLUSTER {
    WARM_UP: Defaulted<Period> = (
        "warm_up", Period(ms(0)..=mins(10)), Is(secs(10)), Restart,
        "how long readiness waits for the log to fill the replay window",
    );
    REQUIRED_FOR_READINESS: Defaulted<Flag> = (
        "required_for_readiness", Flag, Is(false), Restart,
        "`true`: `/readyz` fails while no broker answers, which also stops the pod's REST traffic",
    );
}}
