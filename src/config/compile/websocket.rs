//! `routes.websocket`: limits and options of WebSocket clients.

use std::sync::Arc;

use super::is_token;
use crate::config::diagnostic::{Diagnostics, alternatives, did_you_mean};
use crate::config::file::{Node, Value};
use crate::config::keys::{self, Entry};
use crate::config::section::{Section, text};
use crate::route::{DataForm, WebSocketFrames, WebSocketLimits};

/// The compiled section.
pub(super) struct WebSocket {
    pub(super) frames: WebSocketFrames,
    pub(super) subprotocols: Box<[Box<str>]>,
    /// The routes that sockets of this route may subscribe to.
    pub(super) subscribe: Box<[Arc<str>]>,
    pub(super) limits: WebSocketLimits,
}

/// What the section depends on.
pub(super) struct Context<'a> {
    /// All routes, as written.
    pub(super) written: &'a [Node],
    pub(super) data: DataForm,
    /// The path of this route, if it requires a token. Its sockets may subscribe to it by default: the same token opens
    /// it. A public route has no authorization except for its path.
    pub(super) own_path: Option<&'a str>,
    pub(super) diagnostics: &'a Diagnostics,
}

impl Context<'_> {
    /// Compiles the section of this route.
    pub(super) fn compile(&self, route: &Section<'_>) -> WebSocket {
        let section = route.section(&keys::WEBSOCKET);
        WebSocket {
            frames: self.frames(&section),
            subprotocols: section.texts(&keys::SUBPROTOCOLS, is_token, |_| None),
            subscribe: self.subscribe(&section),
            limits: limits(&section),
        }
    }

    /// A binary frame has no room for an envelope.
    fn frames(&self, section: &Section<'_>) -> WebSocketFrames {
        let frames = section.value(&keys::FRAMES);
        if frames == WebSocketFrames::Binary && self.data == DataForm::Envelope {
            let message = "binary frames hold the payload alone, not an envelope";
            let place = section.place_of(&keys::FRAMES);
            self.diagnostics.expected(place, message, "`data: payload` beside `websocket`");
        }
        frames
    }

    fn subscribe(&self, section: &Section<'_>) -> Box<[Arc<str>]> {
        if !section.has(&keys::SUBSCRIBE) {
            return self.own_path.map(Arc::from).into_iter().collect();
        }
        let paths = || self.written.iter().filter_map(|node| socket_path(&node.value));
        let is_path = |text: &str| text.starts_with('/');
        let patterns = section.texts(&keys::SUBSCRIBE, is_path, |_| None);
        for node in section.list(&keys::SUBSCRIBE) {
            let Some(written) = text(&node.value).filter(|text| is_path(text)) else { continue };
            if !paths().any(|path| path == written) {
                let hint = did_you_mean(written, paths());
                let message = format!("no route that offers WebSocket has the path `{written}`{hint}");
                self.diagnostics.expected(node.place, message, alternatives(paths()));
            }
        }
        patterns.into_iter().map(Arc::from).collect()
    }
}

/// The path of a route, as written, if it offers WebSockets.
fn socket_path(route: &Value) -> Option<&str> {
    let Value::Map(entries) = route else { return None };
    let get = |key: &dyn Entry| {
        let entry = entries.iter().find(|(name, _)| name.text == key.name());
        entry.and_then(|(_, node)| text(&node.value))
    };
    matches!(get(&keys::TRANSPORT), None | Some("auto" | "ws")).then(|| get(&keys::ROUTE_PATH)).flatten()
}

fn limits(section: &Section<'_>) -> WebSocketLimits {
    WebSocketLimits {
        message_bytes: section.value(&keys::MESSAGE),
        commands_per_second: section.value(&keys::COMMANDS_PER_SECOND),
        frames_per_second: section.value(&keys::FRAMES_PER_SECOND),
        subscriptions: section.value(&keys::SUBSCRIPTIONS) as usize,
        pong_timeout: section.value(&keys::PONG_TIMEOUT),
        authenticate_timeout: section.value(&keys::AUTHENTICATE_TIMEOUT),
    }
}
