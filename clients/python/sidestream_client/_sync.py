"""The stream for `for`."""

import time
from collections.abc import Callable, Iterator

import httpx

from ._items import Event, Gap, Snapshot
from ._protocol import Protocol


class Stream:
    """A stream that stays open: after a cut it goes on where it was. One thread reads it.

    `token` is a bearer token, or a function that gives a fresh one before each connection. `since` is a cursor, an event
    id, a time (RFC 3339) or how long ago (`-15m`). `on_open` is called for each accepted connection, and
    `on_expiring` when the token is about to expire: then call `renew`. `authenticate` is how a WebSocket sends its token:
    as a `subprotocol`, or as its first `message`. `max_rate` is the most events a second. `credit` is the most events of a
    WebSocket that are on their way to the reader; the server holds what is beyond either. Raises `Refused` where another attempt would change nothing.
    """

    def __init__(
        self,
        url: str,
        *,
        transport: str = "ndjson",
        since: str | None = None,
        token: str | Callable[[], str | None] | None = None,
        authenticate: str = "subprotocol",
        headers: dict | None = None,
        on_open: Callable[[], None] | None = None,
        on_expiring: Callable[[], None] | None = None,
        max_rate: int | None = None,
        credit: int | None = None,
        client: httpx.Client | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ):
        self._protocol = Protocol(url, transport, since, headers, authenticate, on_expiring, max_rate, credit)
        self._token, self._client, self._sleep = token, client or httpx.Client(), sleep
        self._owns_client = client is None
        self._on_open = on_open or (lambda: None)
        self._items = self._run()
        self._socket = None

    @property
    def cursor(self) -> str | None:
        """Where the reader stands: after the last item that it asked for another one behind."""
        return self._protocol.cursor

    def renew(self, token: str) -> None:
        """Uses this token from now on. An open WebSocket sends it at once; others take it with their next connection.

        Another thread may call it while this one reads.
        """
        self._token = token
        if self._socket:
            self._socket.send(self._protocol.authenticate(token))

    def close(self) -> None:
        self._items.close()
        if self._owns_client:
            self._client.close()

    def __enter__(self) -> "Stream":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def __iter__(self) -> Iterator[Event | Gap | Snapshot]:
        return self

    def __next__(self) -> Event | Gap | Snapshot:
        return next(self._items)

    def _run(self) -> Iterator[Event | Gap | Snapshot]:
        connect = self._websocket if self._protocol.transport == "websocket" else self._fetch
        while True:
            try:
                for item in connect():
                    yield item
                    # It counts as read once the reader came back for the next one.
                    self._protocol.cursor = item.cursor
            except (httpx.TransportError, OSError, ValueError):
                pass  # A cut or refused connection: there is nothing to do but to come back.
            self._sleep(self._protocol.delay())

    def _fetch(self) -> Iterator[Event | Gap | Snapshot]:
        protocol = self._protocol
        timeout = httpx.Timeout(protocol.patience, read=protocol.patience)
        request = {"params": protocol.parameters(), "headers": protocol.headers(self._fresh_token()), "timeout": timeout}
        with self._client.stream("GET", protocol.url, **request) as response:
            if response.status_code != 200:
                gap = protocol.answer(response.status_code, response.headers, response.read())
                if gap:
                    yield gap
                return
            self._on_open()
            reader = protocol.reader()
            for data in response.iter_bytes():
                yield from reader.feed(data)

    def _websocket(self) -> Iterator[Event | Gap | Snapshot]:
        from websockets.exceptions import ConnectionClosed, InvalidStatus
        from websockets.sync.client import connect

        protocol = self._protocol
        url = str(httpx.URL(protocol.websocket_url()).copy_merge_params(protocol.parameters()))
        try:
            token = self._fresh_token()
            with connect(url, subprotocols=protocol.subprotocols(token),
                         additional_headers=protocol.own_headers) as socket:
                first = protocol.first_message(token)
                if first:
                    socket.send(first)
                self._socket = socket
                self._on_open()
                while True:
                    item = protocol.message(socket.recv(timeout=protocol.patience))
                    if item is not None:
                        yield item
                        events = protocol.take(item)
                        if events:
                            time.sleep(protocol.credit_pause(time.monotonic()))
                            socket.send(protocol.give(events))
        except InvalidStatus as refused:
            gap = protocol.answer(refused.response.status_code, refused.response.headers, refused.response.body or b"")
            if gap:
                yield gap
        except ConnectionClosed as closed:
            protocol.closed(closed.rcvd.code if closed.rcvd else None)
        finally:
            self._socket = None

    def _fresh_token(self) -> str | None:
        return self._token() if callable(self._token) else self._token
