# The Python package (clients/python), sync or async. Arguments: `sync` or `async`, URL, number of events, token (optional),
# how a WebSocket sends it (optional), credit (optional).
# Prints JSON lines: {"open":true}, {"id":...}, {"gap":...}.
import asyncio
import json
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "clients/python"))
from sidestream_client import AsyncStream, Event, Stream  # noqa: E402

mode, url, count, *credentials = sys.argv[1:]
transport = "websocket" if url.endswith("/ws") else "ndjson" if url.endswith("/stream") else "sse"
options = {"transport": transport, "on_open": lambda: say({"open": True}), **dict(zip(("token", "authenticate"), credentials))}
if len(credentials) > 2:
    options["credit"] = int(credentials[2])
url = "http" + url.removeprefix("ws").removeprefix("http")
seen = 0


def say(line):
    print(json.dumps(line), flush=True)


def is_last(item):
    global seen
    if not isinstance(item, Event):
        say({"gap": item.cause})
        return False
    say({"id": item.value["id"]})
    seen += 1
    return seen == int(count)


async def later():
    async for item in AsyncStream(url, **options):
        if is_last(item):
            return


if mode == "sync":
    for item in Stream(url, **options):
        if is_last(item):
            break
else:
    asyncio.run(later())
