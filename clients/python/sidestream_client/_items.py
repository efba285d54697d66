"""What a stream hands to its reader."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Event:
    """An event: sidestream's envelope, or the payload alone where the route sends that."""

    value: Any
    #: Where the reader stands after this event; give it as `since` to go on.
    cursor: str | None


@dataclass(frozen=True)
class Gap:
    """Events that this reader does not get."""

    cause: str
    ranges: list[dict]
    #: How many of the reader's own events are missing; None where that cannot be known.
    missed: int | None
    #: The URL of a full snapshot, where the route names one.
    refresh: str | None
    cursor: str | None

    @classmethod
    def of(cls, value: dict, cursor: str | None) -> "Gap":
        return cls(value.get("cause", ""), value.get("ranges", []), value.get("missed"), value.get("refresh"), cursor)


@dataclass(frozen=True)
class Snapshot:
    """A border of the state that `?from=state` asks for. At `begin`, forget the state that you have."""

    #: `begin` or `end`.
    phase: str
    #: Of `begin`: why the state comes again.
    reason: str | None
    #: Of `end`: the events of this connection.
    count: int | None
    cursor: str | None

    @classmethod
    def of(cls, value: dict, cursor: str | None) -> "Snapshot":
        return cls(value.get("phase", ""), value.get("reason"), value.get("count"), cursor)
