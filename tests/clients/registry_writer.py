"""Writes records with Confluent's serializers: registry_writer.py BROKERS REGISTRY PREFIX.

REGISTRY is a URL, or `mock://` for the registry within Confluent's client. Topics are PREFIX-avro, PREFIX-protobuf and
PREFIX-json, with the schema id before the value, and the same with the suffix -header, with a GUID in a header. The
script invents the GUIDs, because not every registry has them. The last line has the responses of a registry that has these
schemas, by path.
"""

import json
import sys
import uuid
from datetime import date, datetime, timezone
from decimal import Decimal
from urllib.parse import quote

import attrs
from confluent_kafka import Producer
from confluent_kafka.schema_registry import (
    Schema,
    SchemaReference,
    SchemaRegistryClient,
    header_schema_id_serializer,
    prefix_schema_id_serializer,
)
from confluent_kafka.schema_registry._sync.mock_schema_registry_client import MockSchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroSerializer
from confluent_kafka.schema_registry.confluent.type import decimal_pb2
from confluent_kafka.schema_registry.json_schema import JSONSerializer
from confluent_kafka.schema_registry.protobuf import ProtobufSerializer
from confluent_kafka.serialization import MessageField, SerializationContext
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, timestamp_pb2
from google.type import money_pb2

BROKERS, REGISTRY, PREFIX = sys.argv[1:]
# More than a double holds.
LONG = 2**53 + 1

ADDRESS = {"type": "record", "name": "Address", "namespace": "shop", "fields": [{"name": "city", "type": "string"}]}
CUSTOMER = {
    "type": "record",
    "name": "Customer",
    "namespace": "shop",
    "fields": [
        {"name": "name", "type": "string"},
        {"name": "address", "type": "shop.Address"},
        {"name": "level", "type": {"type": "enum", "name": "Level", "symbols": ["NEW", "REGULAR"]}},
    ],
}
ORDER = {
    "type": "record",
    "name": "Order",
    "namespace": "shop",
    "fields": [
        {"name": "orderId", "type": "long"},
        {"name": "customer", "type": "shop.Customer"},
        # A type that is defined within a reference.
        {"name": "level", "type": "shop.Level"},
        {"name": "total", "type": {"type": "bytes", "logicalType": "decimal", "precision": 12, "scale": 2}},
        {"name": "created", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {"name": "day", "type": {"type": "int", "logicalType": "date"}},
        {"name": "uuid", "type": {"type": "string", "logicalType": "uuid"}},
        {"name": "note", "type": ["null", "string"], "default": None},
        {"name": "counts", "type": {"type": "map", "values": "int"}},
    ],
}
ORDER_VALUE = {
    "orderId": LONG,
    "customer": {"name": "Ada", "address": {"city": "London"}, "level": "NEW"},
    "level": "REGULAR",
    "total": Decimal("42.50"),
    "created": datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=timezone.utc),
    "day": date(2026, 1, 2),
    "uuid": "6ba7b810-9dad-11d1-80b4-00c04fd430c8",
    "note": None,
    "counts": {"a": 1},
}
JSON_SCHEMA = {
    "$schema": "http://json-schema.org/draft-07/schema#",
    "title": "Order",
    "type": "object",
    "properties": {"orderId": {"type": "integer"}},
}


class Client(MockSchemaRegistryClient if REGISTRY.startswith("mock:") else SchemaRegistryClient):
    """Gives every schema a GUID."""

    def register_schema_full_response(self, subject_name, schema, normalize_schemas=False):
        registered = super().register_schema_full_response(subject_name, schema, normalize_schemas)
        return attrs.evolve(registered, guid=str(uuid.UUID(int=registered.schema_id)))


def message_classes():
    """shop.Order and the message Line within it. The file's first message is another one."""
    customer = descriptor_pb2.FileDescriptorProto(name="shop/customer.proto", package="shop", syntax="proto3")
    message = customer.message_type.add(name="Customer")
    field(message, "name", 1, "TYPE_STRING")
    order = descriptor_pb2.FileDescriptorProto(name="shop/order.proto", package="shop", syntax="proto3")
    order.dependency.extend(
        [
            "shop/customer.proto",
            "google/protobuf/timestamp.proto",
            "google/type/money.proto",
            "confluent/type/decimal.proto",
        ]
    )
    field(order.message_type.add(name="Cancelled"), "order_id", 1, "TYPE_INT64")
    message = order.message_type.add(name="Order")
    field(message.nested_type.add(name="Line"), "sku", 1, "TYPE_STRING")
    field(message, "order_id", 1, "TYPE_INT64")
    field(message, "customer", 2, "TYPE_MESSAGE", ".shop.Customer")
    field(message, "created", 3, "TYPE_MESSAGE", ".google.protobuf.Timestamp")
    field(message, "total", 4, "TYPE_MESSAGE", ".google.type.Money")
    field(message, "discount", 5, "TYPE_MESSAGE", ".confluent.type.Decimal")
    field(message, "lines", 6, "TYPE_MESSAGE", ".shop.Order.Line").label = 3
    pool = descriptor_pool.Default()
    # The modules above have added the files that these import.
    pool.Add(customer)
    pool.Add(order)
    return [message_factory.GetMessageClass(pool.FindMessageTypeByName(name)) for name in ("shop.Order", "shop.Order.Line")]


def field(message, name, number, kind, type_name=None):
    added = message.field.add(name=name, number=number, label=1)
    added.type = descriptor_pb2.FieldDescriptorProto.Type.Value(kind)
    if type_name:
        added.type_name = type_name
    return added


def protobuf_values():
    Order, Line = message_classes()
    order = Order(order_id=LONG, lines=[Line(sku="a")])
    order.customer.name = "Ada"
    order.created.CopyFrom(timestamp_pb2.Timestamp(seconds=1767323045))
    order.total.CopyFrom(money_pb2.Money(currency_code="EUR", units=42, nanos=500000000))
    order.discount.CopyFrom(decimal_pb2.Decimal(value=b"\x05", precision=3, scale=1))
    return [order, Line(sku="b")]


def avro_schema(registry):
    """Registers the schemas that the order's schema refers to."""
    address = Schema(json.dumps(ADDRESS), "AVRO")
    registry.register_schema("shop.Address", address)
    reference = [SchemaReference("shop.Address", "shop.Address", 1)]
    registry.register_schema("shop.Customer", Schema(json.dumps(CUSTOMER), "AVRO", reference))
    return Schema(json.dumps(ORDER), "AVRO", [SchemaReference("shop.Customer", "shop.Customer", 1), *reference])


def serializers(registry, place):
    """The serializers and values of each kind of topic."""
    config = {"schema.id.serializer": place}
    yield "avro", [(AvroSerializer(registry, avro_schema(registry), conf=config), ORDER_VALUE)]
    values = protobuf_values()
    yield "protobuf", [(ProtobufSerializer(type(value), registry, dict(config)), value) for value in values]
    yield "json", [(JSONSerializer(json.dumps(JSON_SCHEMA), registry, conf=config), {"orderId": LONG})]


def main():
    registry = Client({"url": REGISTRY})
    producer = Producer({"bootstrap.servers": BROKERS})
    key = AvroSerializer(registry, json.dumps("long"))
    schemas = {}
    for suffix, place in (("", prefix_schema_id_serializer), ("-header", header_schema_id_serializer)):
        for kind, values in serializers(registry, place):
            topic = f"{PREFIX}-{kind}{suffix}"
            for serializer, value in values:
                headers = []
                body = serializer(value, SerializationContext(topic, MessageField.VALUE, headers))
                key_bytes = key(LONG, SerializationContext(topic, MessageField.KEY, []))
                producer.produce(topic, body, key=key_bytes, headers=headers, partition=0)
                for _, header in headers:
                    guid = uuid.UUID(bytes=header[1:17])
                    schemas[f"/schemas/guids/{guid}"] = guid.int
                for written in (key_bytes, *([] if headers else [body])):
                    schema_id = int.from_bytes(written[1:5], "big")
                    schemas[f"/schemas/ids/{schema_id}"] = schema_id
    producer.flush()
    print(json.dumps(responses(registry, schemas)), flush=True)


def responses(registry, schemas):
    """The responses for these schemas, whose ids are known, and for all references."""
    found = {}
    wanted = {path: registry.get_schema(schema_id) for path, schema_id in schemas.items()}
    while wanted:
        path, schema = wanted.popitem()
        references = [reference_of(reference) for reference in schema.references or []]
        found[path] = {"schema": schema.schema_str, "schemaType": schema.schema_type, "references": references}
        for reference in references:
            place = f"/subjects/{quote(reference['subject'], safe='')}/versions/{reference['version']}"
            if place not in found:
                wanted[place] = registry.get_version(reference["subject"], reference["version"]).schema
    return found


def reference_of(reference):
    return {"name": reference.name, "subject": reference.subject, "version": reference.version}


main()
