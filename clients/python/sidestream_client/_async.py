"""The stream for `async for`."""

import asyncio
import inspect
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import httpx

from ._items import Event, Gap, Snapshot
from ._protocol import Protocol


class AsyncStream:
    """The same as `Stream`, for asyncio. `token` may also be a coroutine function."""

    def __init__(
        self,
        url: str,
        *,
        transport: str = "ndjson",
        since: str | None = None,
        token: str | Callable[[], str | None | Awaitable[str | None]] | None = None,
        authenticate: str = "subprotocol",
        headers: dict | None = None,
        on_open: Callable[[], None] | None = None,
        on_expiring: Callable[[], None] | None = None,
        max_rate: int | None = None,
        credit: int | None = None,
        client: httpx.AsyncClient | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ):
        self._protocol = Protocol(url, transport, since, headers, authenticate, on_expiring, max_rate, credit)
        self._token, self._client, self._sleep = token, client or httpx.AsyncClient(), sleep
        self._owns_client = client is None
        self._on_open = on_open or (lambda: None)
        self._items = self._run()
        self._socket = None

    @property
    def cursor(self) -> str | None:
        return self._protocol.cursor

    async def renew(self, token: str) -> None:
        """Uses this token from now on. An open WebSocket sends it at once; others take it with their next connection."""
        self._token = token
        if self._socket:
            await self._socket.send(self._protocol.authenticate(token))

    async def aclose(self) -> None:
        await self._items.aclose()
        if self._owns_client:
            await self._client.aclose()

    async def __aenter__(self) -> "AsyncStream":
        return self

    async def __aexit__(self, *_) -> None:
        await self.aclose()

    def __aiter__(self) -> AsyncIterator[Event | Gap | Snapshot]:
        return self

    async def __anext__(self) -> Event | Gap | Snapshot:
        return await anext(self._items)

    async def _run(self) -> AsyncIterator[Event | Gap | Snapshot]:
        connect = self._websocket if self._protocol.transport == "websocket" else self._fetch
        while True:
            try:
                async for item in connect():
                    yield item
                    self._protocol.cursor = item.cursor
            except (httpx.TransportError, OSError, ValueError, TimeoutError):
                pass
            await self._sleep(self._protocol.delay())

    async def _fetch(self) -> AsyncIterator[Event | Gap | Snapshot]:
        protocol = self._protocol
        timeout = httpx.Timeout(protocol.patience, read=protocol.patience)
        headers = protocol.headers(await self._fresh_token())
        request = {"params": protocol.parameters(), "headers": headers, "timeout": timeout}
        async with self._client.stream("GET", protocol.url, **request) as response:
            if response.status_code != 200:
                gap = protocol.answer(response.status_code, response.headers, await response.aread())
                if gap:
                    yield gap
                return
            self._on_open()
            reader = protocol.reader()
            async for data in response.aiter_bytes():
                for item in reader.feed(data):
                    yield item

    async def _websocket(self) -> AsyncIterator[Event | Gap | Snapshot]:
        from websockets.asyncio.client import connect
        from websockets.exceptions import ConnectionClosed, InvalidStatus

        protocol = self._protocol
        url = str(httpx.URL(protocol.websocket_url()).copy_merge_params(protocol.parameters()))
        try:
            token = await self._fresh_token()
            async with connect(url, subprotocols=protocol.subprotocols(token),
                               additional_headers=protocol.own_headers) as socket:
                first = protocol.first_message(token)
                if first:
                    await socket.send(first)
                self._socket = socket
                self._on_open()
                while True:
                    item = protocol.message(await asyncio.wait_for(socket.recv(), protocol.patience))
                    if item is not None:
                        yield item
                        events = protocol.take(item)
                        if events:
                            await asyncio.sleep(protocol.credit_pause(time.monotonic()))
                            await socket.send(protocol.give(events))
        except InvalidStatus as refused:
            gap = protocol.answer(refused.response.status_code, refused.response.headers, refused.response.body or b"")
            if gap:
                yield gap
        except ConnectionClosed as closed:
            protocol.closed(closed.rcvd.code if closed.rcvd else None)
        finally:
            self._socket = None

    async def _fresh_token(self) -> str | None:
        token = self._token() if callable(self._token) else self._token
        return await token if inspect.isawaitable(token) else token
