"""The protocol without I/O: bytes to items, and what to do after a connection ended. Both clients drive it."""

import base64
import codecs
import json
import random
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit, urlunsplit

from ._items import Event, Gap, Snapshot
from ._refused import Refused

#: The server's default; the first heartbeat, which comes at once, says the route's own interval. Seconds.
HEARTBEAT_S = 15.0
#: So many intervals without a byte, and the connection is taken for dead.
HEARTBEATS_MISSED = 2.5
#: The least time between two commands that give credit: a route allows 20 commands a second by default. Seconds.
COMMAND_S = 0.1
#: From 1 to 30 seconds, doubling.
FIRST_DELAY_S = 1.0
LAST_DELAY_S = 20.0

#: The types of sidestream's own objects on an NDJSON stream. An event of such a type has an id, or its line begins with
#: a space where the route sends payloads alone.
_OWN = frozenset(("gap", "heartbeat", "probe", "auth", "snapshot"))
_TYPES = {"ndjson": "application/x-ndjson", "sse": "text/event-stream"}
_PARAMETERS = {"ndjson": "since", "sse": "last_event_id", "websocket": "since"}
#: A WebSocket's subprotocols: HTTP tokens, so that the token is base64url without padding.
_TOKEN_PROTOCOL = "base64url.bearer.authorization.sidestream."
_PROTOCOL = "sidestream"
_POLICY_VIOLATION = 1008


class Protocol:
    """One stream: its cursor, its attempts, and the interval that the server keeps."""

    def __init__(self, url: str, transport: str, since: str | None, headers: dict | None,
                 authenticate: str = "subprotocol", on_expiring: Callable[[], None] | None = None,
                 max_rate: int | None = None, credit: int | None = None):
        if transport not in _PARAMETERS:
            raise ValueError(f"transport is ndjson, sse or websocket, not {transport}")
        if authenticate not in ("subprotocol", "message"):
            raise ValueError(f"authenticate is subprotocol or message, not {authenticate}")
        self.by_message, self.on_expiring, self.sent = authenticate == "message", on_expiring or (lambda: None), 0
        self.url, self.transport, self.cursor = url, transport, since
        self.own_headers = dict(headers or {})
        self.max_rate, self.credit = max_rate, credit if transport == "websocket" else None
        self.taken, self.given = 0, 0.0
        self.interval = HEARTBEAT_S
        self.attempt = 0
        self.wait = 0.0

    @property
    def patience(self) -> float:
        """How long a silence may last, in seconds."""
        return HEARTBEATS_MISSED * self.interval

    def parameters(self) -> dict:
        position = {_PARAMETERS[self.transport]: self.cursor} if self.cursor else {}
        pace = {"maxRate": self.max_rate, "credit": self.credit}
        self.taken = 0
        return {"heartbeat": "immediate", **position, **{name: value for name, value in pace.items() if value}}

    def headers(self, token: str | None) -> dict:
        authorization = {"Authorization": f"Bearer {token}"} if token else {}
        return {"Accept": _TYPES[self.transport], "Cache-Control": "no-cache", **self.own_headers, **authorization}

    def websocket_url(self) -> str:
        parts = urlsplit(self.url)
        return urlunsplit(parts._replace(scheme={"http": "ws", "https": "wss"}.get(parts.scheme, parts.scheme)))

    def subprotocols(self, token: str | None) -> list[str] | None:
        if not token or self.by_message:
            return None
        return [_PROTOCOL, _TOKEN_PROTOCOL + base64.urlsafe_b64encode(token.encode()).decode().rstrip("=")]

    def first_message(self, token: str | None) -> str | None:
        """The message with which a WebSocket sends its token, where it sends it so."""
        return self.authenticate(token) if token and self.by_message else None

    def authenticate(self, token: str) -> str:
        self.sent += 1
        data = {"command": "authenticate", "token": token}
        return json.dumps({"id": f"auth-{self.sent}", "type": "command", "data": data})

    def take(self, item: Event | Gap | Snapshot) -> int:
        """The reader has taken an item. Gives the events to give credit for: half of the credit at once, or 0."""
        self.taken += isinstance(item, Event)
        if not self.credit or 2 * self.taken < self.credit:
            return 0
        events, self.taken = self.taken, 0
        return events

    def credit_pause(self, now: float) -> float:
        """How long the next command that gives credit has to wait, in seconds."""
        pause = max(0.0, self.given + COMMAND_S - now)
        self.given = now + pause
        return pause

    def give(self, events: int) -> str:
        return json.dumps({"type": "command", "data": {"command": "credit", "events": events}})

    def delay(self) -> float:
        """How long to wait before the next attempt, in seconds."""
        delay = min(LAST_DELAY_S, FIRST_DELAY_S * 2**self.attempt) * (1 + random.random() / 2)
        self.attempt += 1
        return max(delay, self.wait)

    def answer(self, status: int, headers, body: bytes) -> Gap | None:
        """What an answer other than 200 means. Raises `Refused` where another attempt would change nothing."""
        if status == 410:
            self.cursor = None
            return Gap.of(json.loads(body), None)
        if status == 429 or status >= 500:
            seconds = headers.get("retry-after", "")
            self.wait = float(seconds) if seconds.isdigit() else 0.0
            return None
        try:
            problem = json.loads(body)
        except ValueError:
            problem = None
        raise Refused(status, problem if isinstance(problem, dict) else None)

    def closed(self, code: int | None) -> None:
        if code == _POLICY_VIOLATION:
            raise Refused(code)

    def reader(self) -> "Reader":
        self.wait = 0.0
        return Reader(self)

    def event(self, value, cursor: str | None) -> Event:
        return Event(value, cursor or self.cursor)

    def own(self, kind: str, value: dict, cursor: str | None) -> Gap | Snapshot | None:
        if kind == "gap":
            return Gap.of(value, cursor or self.cursor)
        if kind == "snapshot":
            return Snapshot.of(value, cursor or self.cursor)
        if kind == "heartbeat":
            self.cursor = cursor or self.cursor
            if value.get("interval", 0) > 0:
                self.interval = value["interval"] / 1000
        if kind == "auth":
            self.on_expiring()
        return None

    def message(self, text: str) -> Event | Gap | Snapshot | None:
        """A WebSocket's message. The id of an event is its place in Kafka; others are the connection's own."""
        self.attempt = 0
        message = json.loads(text)
        if message.get("type") != "event":
            return None
        if ":" in message["id"]:
            return self.event(message["data"], message.get("cursor") or message["id"])
        data = message.get("data") or {}
        return self.own(data.get("type", ""), data, data.get("cursor"))


class Reader:
    """The bytes of one answer to items. What the connection's end cuts is dropped: the cursor stands before it."""

    def __init__(self, protocol: Protocol):
        self.protocol = protocol
        self.decoder = codecs.getincrementaldecoder("utf-8")()
        self.rest = ""
        self.record: dict = {}

    def feed(self, data: bytes) -> Iterator[Event | Gap | Snapshot]:
        self.protocol.attempt = 0
        # LF alone ends a line: `str.splitlines` would split at U+2028 as well.
        *lines, self.rest = (self.rest + self.decoder.decode(data)).split("\n")
        take = self._line if self.protocol.transport == "ndjson" else self._field
        for line in lines:
            item = take(line)
            if item is not None:
                yield item

    def _line(self, line: str) -> Event | Gap | Snapshot | None:
        if not line.strip():
            return None
        value = json.loads(line)
        fields = value if isinstance(value, dict) else {}
        if fields.get("type") in _OWN and "id" not in fields and not line.startswith(" "):
            return self.protocol.own(fields["type"], fields, fields.get("cursor"))
        return self.protocol.event(value, fields.get("cursor") or fields.get("id"))

    def _field(self, line: str) -> Event | Gap | Snapshot | None:
        """A line of an event stream (WHATWG HTML section 9.2.6)."""
        line = line.removesuffix("\r")
        if not line:
            record, self.record = self.record, {}
            return self._dispatch(record)
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self.record["data"] = f"{self.record['data']}\n{value}" if "data" in self.record else value
        elif name in ("id", "event"):
            self.record[name] = value
        elif name == "retry" and value.isdigit():
            self.protocol.wait = int(value) / 1000
        return None

    def _dispatch(self, record: dict) -> Event | Gap | Snapshot | None:
        cursor, kind = record.get("id"), record.get("event", "")
        if "data" not in record:
            self.protocol.cursor = cursor or self.protocol.cursor
            return None
        value = json.loads(record["data"])
        if kind in _OWN:
            return self.protocol.own(kind, value, cursor)
        return self.protocol.event(value, cursor)
