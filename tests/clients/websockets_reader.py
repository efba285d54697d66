"""Python `websockets`: reconnects when it is cut and resumes with ?since=.

Arguments: URL, number of events, token (optional). Prints JSON lines: {"open":true}, {"id":...}, {"gap":...}.
"""

import json
import sys
import time
from urllib.parse import quote

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

RECONNECT_SECONDS = 0.05

url, count = sys.argv[1], int(sys.argv[2])
headers = {"Authorization": f"Bearer {sys.argv[3]}"} if len(sys.argv) > 3 else {}
seen, cursor = 0, None


def say(line):
    print(json.dumps(line), flush=True)


while seen < count:
    address = f"{url}?since={quote(cursor)}" if cursor else url
    try:
        with connect(address, additional_headers=headers, proxy=None) as socket:
            say({"open": True})
            while seen < count:
                message = json.loads(socket.recv())
                if message["type"] != "event":
                    continue
                cursor = message.get("cursor", message["id"])
                if message["data"]["type"] == "gap":
                    say({"gap": message["data"]})
                else:
                    say({"id": message["data"]["id"]})
                    seen += 1
    except (ConnectionClosed, OSError, EOFError) as error:
        print(f"websockets: {error}", file=sys.stderr)
        time.sleep(RECONNECT_SECONDS)
