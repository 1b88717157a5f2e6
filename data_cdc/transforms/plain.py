"""Documents in the values that JSON has, for expressions over them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from bson.datetime_ms import DatetimeMS
from bson.decimal128 import Decimal128

from core.documents import entry_id
from core.events import ChangeEvent


def plain_event(event: ChangeEvent) -> dict[str, Any]:
    """What an expression sees of `event`."""
    return {
        "op": event.op.value,
        "db": event.db,
        "collection": event.collection,
        "key": event.key,
        "document": plain(event.document),
        "before": plain(event.before),
    }


def plain(value: Any) -> Any:
    """Dates as RFC 3339 with milliseconds, so that they compare as text; ids as people write them.

    A date beyond the year 9999 is its milliseconds since 1970.
    """
    match value:
        case None | bool() | str() | float():
            return value
        case DatetimeMS():
            return int(value)
        case int():
            return int(value)
        case Mapping():
            return {str(name): plain(inner) for name, inner in value.items()}
        case list() | tuple():
            return [plain(item) for item in value]
        case datetime():
            moment = value if value.tzinfo else value.replace(tzinfo=UTC)
            return moment.astimezone(UTC).isoformat(timespec="milliseconds")[:-6] + "Z"
        case Decimal128():
            return float(value.to_decimal())
        case _:
            return entry_id(value)
