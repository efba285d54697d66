"""Independent Python readers of the framings: `jsonseq`, `ijson`, and a strict reader of length-prefixed JSON. Each
reconnects when it is cut and resumes with ?since=.

Arguments: json-seq, json-array or length; URL, number of events. Prints JSON lines: {"open":true}, {"id":...}, {"gap":...}.
"""

import json
import sys
import time

import ijson
import requests
from jsonseq.decode import JSONSeqDecoder

RECONNECT_SECONDS = 0.05


def sequence(response):
    """Every text as `jsonseq` reads it, which takes lines."""
    for line in response.iter_lines(delimiter=b"\n"):
        if line:
            yield from JSONSeqDecoder().decode([line.decode() + "\n"])


def array(response):
    """Every element as `ijson` reads it. At the end of the body it checks that the array is closed."""
    elements = ijson.sendable_list()
    parser = ijson.items_coro(elements, "item")
    for chunk in response.iter_content(chunk_size=None):
        parser.send(chunk)
        yield from elements
        del elements[:]
    parser.close()


def prefixed(response):
    """Every text as the format is defined: each line is a number, and nothing stands between two records."""
    unread, length = b"", None
    for chunk in response.iter_content(chunk_size=None):
        unread += chunk
        while True:
            if length is None:
                digits, found, rest = unread.partition(b"\n")
                if not found:
                    break
                length, unread = int(digits), rest
            if len(unread) < length:
                break
            yield json.loads(unread[:length])
            length, unread = None, unread[length:]


def say(line):
    print(json.dumps(line), flush=True)


def main(framing, url, count):
    read = {"json-seq": sequence, "json-array": array, "length": prefixed}[framing]
    session = requests.Session()
    session.trust_env = False
    seen, cursor = 0, None
    while seen < count:
        try:
            parameters = {"framing": framing, **({"since": cursor} if cursor else {})}
            response = session.get(url, params=parameters, stream=True, timeout=60)
            response.raise_for_status()
            say({"open": True})
            for event in read(response):
                cursor = event.get("cursor", event.get("id", cursor))
                if event["type"] == "gap":
                    say({"gap": event})
                elif event.get("id"):
                    say({"id": event["id"]})
                    seen += 1
                    if seen == count:
                        return
        except requests.RequestException as error:
            print(f"requests: {error}", file=sys.stderr)
            time.sleep(RECONNECT_SECONDS)


main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
