"""A REST service with three paths. It writes to Kafka and serves no streams; sidestream does."""

import itertools
import json
import os
import pathlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from confluent_kafka import KafkaException, Producer

ADDRESS = ("127.0.0.1", int(os.environ.get("PORT", "3000")))
BODY_BYTES_MAX = 64 * 1024
DELIVERY_TIMEOUT_S = 10

producer = Producer({"bootstrap.servers": os.environ["BROKERS"], "enable.idempotence": True})
orders = {}
numbers = itertools.count(1)


def publish(order, kind):
    """Appends an event of this order. Raises KafkaException where Kafka does not acknowledge it in time."""
    failed = []
    value = json.dumps({"type": kind, "orderId": order["orderId"], "data": order})
    producer.produce("orders", key=order["orderId"], value=value, on_delivery=lambda error, _: error and failed.append(error))
    if producer.flush(DELIVERY_TIMEOUT_S) or failed:
        raise KafkaException(failed[0] if failed else "no acknowledgement in time")


class Service(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        if self.path == "/":
            self.answer(200, pathlib.Path(__file__).with_name("index.html").read_bytes(), "text/html; charset=utf-8")
        elif self.path == "/orders":
            self.answer(200, json.dumps(list(orders.values())).encode())
        elif (order := orders.get(self.path.removeprefix("/orders/"))) is not None:
            self.answer(200, json.dumps(order).encode())
        else:
            self.answer(404, b'{"title":"Not Found","status":404}', "application/problem+json")

    def do_POST(self):
        length = int(self.headers.get("Content-Length") or 0)
        if self.path != "/orders" or length > BODY_BYTES_MAX:
            self.close_connection = True
            return self.answer(404 if length <= BODY_BYTES_MAX else 413, b"{}", "application/problem+json")
        order = {"orderId": f"order-{next(numbers)}", "item": self.rfile.read(length).decode(errors="replace")[:100]}
        try:
            publish(order, "order-created")
        except KafkaException:
            return self.answer(503, b'{"title":"Kafka is away","status":503}', "application/problem+json")
        orders[order["orderId"]] = order
        self.answer(201, json.dumps(order).encode())

    def answer(self, status, body, kind="application/json"):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


if __name__ == "__main__":
    ThreadingHTTPServer(ADDRESS, Service).serve_forever()
