"""Python `requests` reading NDJSON: reconnects when it is cut and resumes with ?since=.

Arguments: URL, number of events, token (optional). Prints JSON lines: {"open":true}, {"id":...}, {"gap":...}.
"""

import json
import sys
import time

import requests

RECONNECT_SECONDS = 0.05

url, count = sys.argv[1], int(sys.argv[2])
session = requests.Session()
session.trust_env = False
if len(sys.argv) > 3:
    session.headers["Authorization"] = f"Bearer {sys.argv[3]}"
seen, cursor = 0, None


def say(line):
    print(json.dumps(line), flush=True)


while seen < count:
    try:
        response = session.get(url, params={"since": cursor} if cursor else None, stream=True, timeout=60)
        response.raise_for_status()
        say({"open": True})
        for line in response.iter_lines(delimiter=b"\n"):
            if not line:
                continue
            event = json.loads(line)
            cursor = event.get("cursor", event.get("id"))
            if event["type"] == "gap":
                say({"gap": event})
            else:
                say({"id": event["id"]})
                seen += 1
                if seen == count:
                    break
    except requests.RequestException as error:
        print(f"requests: {error}", file=sys.stderr)
        time.sleep(RECONNECT_SECONDS)
