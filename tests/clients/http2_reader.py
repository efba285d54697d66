"""Python `httpx` reading NDJSON over HTTP/2: reconnects when it is cut and resumes with ?since=.

Arguments: URL, number of events. A URL without TLS is read by prior knowledge. Prints JSON lines: {"open":true}, {"id":...},
{"gap":...}.
"""

import json
import sys
import time

import httpx

RECONNECT_SECONDS = 0.05

url, count = sys.argv[1], int(sys.argv[2])
seen, cursor = 0, None


def say(line):
    print(json.dumps(line), flush=True)


def read(response):
    global seen, cursor
    for line in response.iter_lines():
        if not line:
            continue
        event = json.loads(line)
        cursor = event.get("cursor", event.get("id"))
        if event["type"] == "gap":
            say({"gap": event})
            continue
        say({"id": event["id"]})
        seen += 1
        if seen == count:
            return


while seen < count:
    try:
        with httpx.Client(http1=url.startswith("https"), http2=True, timeout=60) as client:
            with client.stream("GET", url, params={"since": cursor} if cursor else None) as response:
                response.raise_for_status()
                assert response.http_version == "HTTP/2", response.http_version
                say({"open": True})
                read(response)
    except httpx.HTTPError as error:
        print(f"httpx: {error!r}", file=sys.stderr)
        time.sleep(RECONNECT_SECONDS)
