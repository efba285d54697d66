//! The messages of WebSocket clients: JSON to commands.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::Value;

/// The longest command id that a response repeats, in bytes.
const ID_BYTES_MAX: usize = 256;

/// The longest quotation of a client's text in a response, in bytes.
const QUOTED_BYTES_MAX: usize = 256;

/// A bare `{"command": ...}`, or a complete message.
#[derive(Deserialize)]
#[serde(expecting = "an object")]
struct Incoming {
    id: Option<Value>,
    r#type: Option<String>,
    data: Option<Command>,
    #[serde(flatten)]
    bare: Command,
}

#[derive(Deserialize)]
#[serde(expecting = "an object")]
pub(super) struct Command {
    pub(super) command: Option<String>,
    pub(super) resource: Option<String>,
    pub(super) since: Option<String>,
    pub(super) from: Option<String>,
    pub(super) token: Option<String>,
    pub(super) events: Option<Value>,
}

/// The id of a message to repeat, and its command, or why it is invalid.
pub(super) fn parse(text: &str) -> (Value, Result<Command, String>) {
    match serde_json::from_str::<Incoming>(text) {
        Ok(incoming) => incoming.parts(),
        Err(error) => (Value::Null, Err(format!("not a command: {}", quoted(&error.to_string())))),
    }
}

impl Command {
    pub(super) fn is_authenticate(&self) -> bool {
        self.command.as_deref() == Some("authenticate")
    }
}

impl Incoming {
    /// The id to repeat, and the command.
    fn parts(self) -> (Value, Result<Command, String>) {
        let id = match self.id {
            Some(Value::String(id)) if id.len() <= ID_BYTES_MAX => Value::String(id),
            Some(Value::Number(id)) => Value::Number(id),
            _ => Value::Null,
        };
        let command = match (self.r#type.as_deref(), self.data) {
            (Some("command"), Some(data)) => Ok(data),
            (Some("command"), None) => Err("a command has `data`".to_owned()),
            (Some(other), _) => Err(format!("clients send messages of type `command`, not `{}`", quoted(other))),
            (None, Some(data)) if data.command.is_some() => Ok(data),
            (None, _) => Ok(self.bare),
        };
        (id, command)
    }
}

/// The beginning of a client's text, for a quotation in a response.
pub(super) fn quoted(text: &str) -> Cow<'_, str> {
    if text.len() <= QUOTED_BYTES_MAX {
        return text.into();
    }
    format!("{}...", &text[..text.floor_char_boundary(QUOTED_BYTES_MAX)]).into()
}
