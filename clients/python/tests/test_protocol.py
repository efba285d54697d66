"""The protocol without I/O, and both clients against a transport of httpx that answers as it is told."""

import asyncio
import contextlib
import json
import threading
import unittest

import httpx
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import serve

from sidestream_client import AsyncStream, Event, Gap, Refused, Snapshot, Stream
from sidestream_client._protocol import Protocol


def event(n, **more):
    return {"id": f"t:0:{n}", "ts": n, "type": "x", "data": n, **more}


def lines(*values):
    return "".join(json.dumps(value) + "\n" for value in values)


class Answers(httpx.MockTransport):
    """Answers requests one after another; the last answer is for all that follow."""

    def __init__(self, *answers):
        self.requests = []
        super().__init__(self._next)
        self.answers = answers

    def _next(self, request):
        self.requests.append(request)
        return self.answers[min(len(self.requests), len(self.answers)) - 1]()


def ok(text):
    return lambda: httpx.Response(200, stream=httpx.ByteStream(text.encode()))


def no_sleep(_):
    pass


class Reading(unittest.TestCase):
    def read(self, text, transport="ndjson", size=None):
        reader = Protocol("http://x/", transport, None, None).reader()
        data = text.encode()
        size = size or len(data)
        return [item for at in range(0, len(data), size) for item in reader.feed(data[at:at + size])]

    def test_split_characters_and_lines(self):
        text = lines(event(1, data="é\u2028x"))
        items = self.read(json.dumps(event(1, data="é\u2028x"), ensure_ascii=False) + "\n", size=1)
        self.assertEqual(items[0].value["data"], "é\u2028x")
        self.assertEqual(self.read(text)[0].cursor, "t:0:1")

    def test_an_event_that_looks_like_a_gap(self):
        text = lines(event(1, type="gap")) + " " + lines({"type": "gap"}) + lines({"type": "gap", "cause": "overflow"})
        self.assertEqual([type(item) for item in self.read(text)], [Event, Event, Gap])

    def test_sse(self):
        text = 'retry: 5\nid: t:0:0\n\n: c\n\nid: t:0:1\r\ndata: {"a":\r\ndata: 1}\r\n\r\nevent: gap\ndata: {"cause":"overflow"}\n\n'
        items = self.read(text, "sse", size=3)
        self.assertEqual(items, [Event({"a": 1}, "t:0:1"), Gap("overflow", [], None, None, "t:0:0")])

    def test_an_unfinished_record_is_none(self):
        self.assertEqual(self.read('{"id":"t:0:1"}'), [])
        self.assertEqual(self.read("data: 1\n", "sse"), [])


class Clients(unittest.TestCase):
    def both(self, count, answers, **options):
        """Reads so many items with each client; gives what both read, and the requests of the first."""
        def sync():
            transport = Answers(*answers)
            with httpx.Client(transport=transport) as client:
                stream = Stream("http://x/s", client=client, sleep=no_sleep, **options)
                return [next(stream) for _ in range(count)], transport.requests

        async def later():
            async def sleep(_):
                pass
            transport = Answers(*answers)
            async with httpx.AsyncClient(transport=transport) as client:
                stream = AsyncStream("http://x/s", client=client, sleep=sleep, **options)
                items = [await anext(stream) for _ in range(count)]
                await stream.aclose()
                return items, transport.requests

        (items, requests), (others, _) = sync(), asyncio.run(later())
        self.assertEqual(items, others)
        return items, requests

    def test_it_goes_on_at_the_cursor(self):
        items, requests = self.both(3, [ok(lines(event(1), event(2)) + '{"id":'), ok(lines(event(3)))])
        self.assertEqual([item.value["data"] for item in items], [1, 2, 3])
        self.assertEqual(requests[1].url.params["since"], "t:0:2")

    def test_the_borders_of_a_snapshot_are_items(self):
        begin = {"type": "snapshot", "phase": "begin", "cursor": "t:0:-1~.AQ"}
        end = {"type": "snapshot", "phase": "end", "count": 1, "cursor": "t:0:1"}
        first = ok(lines(begin, event(1, cursor="t:0:1~.AQ.YQ", snapshot=True)))
        items, requests = self.both(3, [first, ok(lines(end))])
        self.assertEqual((items[0].phase, items[2]), ("begin", Snapshot("end", None, 1, "t:0:1")))
        self.assertEqual(requests[1].url.params["since"], "t:0:1~.AQ.YQ")

    def test_what_is_gone_is_a_gap(self):
        gone = lambda: httpx.Response(410, json={"cause": "retention", "ranges": [], "refresh": "/orders"})
        items, requests = self.both(2, [gone, ok(lines(event(7)))], since="t:0:1")
        self.assertEqual((items[0].refresh, items[1].value["data"]), ("/orders", 7))
        self.assertNotIn("since", requests[1].url.params)

    def test_a_refusal_raises(self):
        with self.assertRaises(Refused) as raised:
            self.both(1, [lambda: httpx.Response(401, json={"detail": "a token is required"})])
        self.assertEqual((raised.exception.status, str(raised.exception)), (401, "a token is required"))

    def test_a_token_is_asked_for_each_time(self):
        tokens = iter(f"secret-{n}" for n in range(9))
        _, requests = self.both(2, [ok(lines(event(1))), ok(lines(event(2)))], token=lambda: next(tokens))
        self.assertEqual([r.headers["authorization"] for r in requests], ["Bearer secret-0", "Bearer secret-1"])
        self.assertFalse(any("secret" in str(r.url) for r in requests))

    def test_the_server_says_when_to_come_back(self):
        protocol = Protocol("http://x/", "ndjson", None, None)
        protocol.answer(503, {"retry-after": "120"}, b"")
        self.assertGreaterEqual(protocol.delay(), 120)

    def test_a_heartbeat_says_the_interval(self):
        protocol = Protocol("http://x/", "ndjson", None, None)
        list(protocol.reader().feed(lines({"type": "heartbeat", "ts": 1, "interval": 5000, "cursor": "t:0:9"}).encode()))
        self.assertEqual((protocol.patience, protocol.cursor), (12.5, "t:0:9"))


class WebSockets(unittest.TestCase):
    """Both clients against a server that sends an event for each token that it receives, and asks for a second one."""

    def setUp(self):
        self.received = []
        self.server = serve(self.talk, "127.0.0.1", 0)
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()
        self.url = f"http://127.0.0.1:{self.server.socket.getsockname()[1]}/ws"

    def tearDown(self):
        self.server.shutdown()
        self.thread.join()

    def talk(self, socket):
        self.received.append(socket.request.headers.get("Sec-WebSocket-Protocol"))
        for n in (1, 2):
            self.received.append(json.loads(socket.recv())["data"])
            answer = {"command": "authenticate", "status": "ok"}
            socket.send(json.dumps({"id": "msg-1", "type": "response", "data": answer}))
            socket.send(json.dumps({"id": f"t:0:{n}", "type": "event", "data": event(n)}))
            socket.send(json.dumps({"id": "msg-2", "type": "event", "data": {"type": "auth", "expires": 9}}))
        with contextlib.suppress(ConnectionClosed):
            socket.recv()

    def expected(self):
        return [None, *({"command": "authenticate", "token": token} for token in ("first", "second"))]

    def test_a_first_message_and_a_renewal(self):
        options = {"transport": "websocket", "token": "first", "authenticate": "message"}
        stream = Stream(self.url, on_expiring=lambda: stream.renew("second"), **options)
        with stream:
            self.assertEqual([next(stream).value["data"] for _ in range(2)], [1, 2])
        self.assertEqual(self.received, self.expected())

    def test_the_same_with_asyncio(self):
        async def read():
            options = {"transport": "websocket", "token": "first", "authenticate": "message"}
            tasks = []
            stream = AsyncStream(
                self.url, on_expiring=lambda: tasks.append(asyncio.create_task(stream.renew("second"))), **options)
            async with stream:
                return [(await anext(stream)).value["data"] for _ in range(2)]

        self.assertEqual(asyncio.run(read()), [1, 2])
        self.assertEqual(self.received, self.expected())


if __name__ == "__main__":
    unittest.main()
