"""Python `sseclient-py` over `requests`: reconnects when it is cut and resumes with Last-Event-ID.

Arguments: URL, number of events, token (optional). Prints JSON lines: {"open":true}, {"id":...}, {"gap":...}.
"""

import json
import sys
import time

import requests
import sseclient

RECONNECT_SECONDS = 0.05

url, count = sys.argv[1], int(sys.argv[2])
session = requests.Session()
session.trust_env = False
session.headers["Accept"] = "text/event-stream"
if len(sys.argv) > 3:
    session.headers["Authorization"] = f"Bearer {sys.argv[3]}"
seen = 0


def say(line):
    print(json.dumps(line), flush=True)


while seen < count:
    try:
        response = session.get(url, stream=True, timeout=60)
        response.raise_for_status()
        say({"open": True})
        for event in sseclient.SSEClient(response).events():
            if event.id:
                session.headers["Last-Event-ID"] = event.id
            if event.event == "gap":
                say({"gap": json.loads(event.data)})
            elif event.data:
                say({"id": json.loads(event.data)["id"]})
                seen += 1
                if seen == count:
                    break
    except requests.RequestException as error:
        print(f"sseclient-py: {error}", file=sys.stderr)
        time.sleep(RECONNECT_SECONDS)
