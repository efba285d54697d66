//! What the gateway's tests share.

use std::time::Duration;

use crate::route::{
    Admission, DataForm, EventField, HeartbeatForm, Offer, OnGap, OtherMethods, Overflow, QueueLimits, Stream,
    StreamRoute, Transport, WebSocketLimits,
};

/// A public SSE route.
pub(super) fn route(pattern: &str) -> StreamRoute {
    StreamRoute {
        pattern: pattern.into(),
        stream: Stream { id: 1, name: "orders".into(), topics: ["orders".into()].into(), keys: [].into() }.into(),
        offer: Offer::Only(Transport::Sse),
        admission: Admission::Public,
        bindings: [].into(),
        other_methods: OtherMethods::Refuse,
        data: DataForm::Envelope,
        event_field: EventField::None,
        heartbeat: Duration::from_secs(15),
        heartbeat_form: HeartbeatForm::Silent,
        retry: Duration::from_secs(3),
        on_gap: OnGap::Gone,
        refresh: None,
        queue: QueueLimits { events: 16, bytes: 1 << 16, overflow: Overflow::DropOldest },
        websocket: WebSocketLimits {
            message_bytes: 1 << 16,
            commands_per_second: 20,
            subscriptions: 8,
            pong_timeout: Duration::from_secs(10),
        },
        max_streams: None,
        allowed_origins: [].into(),
        subprotocols: [].into(),
    }
}
