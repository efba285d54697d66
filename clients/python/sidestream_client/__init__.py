"""A client for sidestream's streams. It resumes exactly, reports gaps, and gives up silent connections.

    for item in Stream("https://api.example/orders/stream", since=load_cursor(), token=fresh_token):
        if isinstance(item, Event):
            store(item.value, item.cursor)
        elif isinstance(item, Gap):
            resync(item.refresh)

With `?from=state` in the URL, a `Snapshot` is before and after the events of the state.

`AsyncStream` is the same for `async for`.
"""

from ._async import AsyncStream
from ._items import Event, Gap, Snapshot
from ._refused import Refused
from ._sync import Stream

__all__ = ["AsyncStream", "Event", "Gap", "Refused", "Snapshot", "Stream"]
