"""Change capture: its rate, its weight on the primary, its memory and its lag."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from benchmarks.cdc.insert import measure_insert
from benchmarks.cdc.lag import measure_lag
from benchmarks.cdc.memory import measure_memory
from benchmarks.cdc.publish import measure_publish
from benchmarks.figures import Row
from benchmarks.stage import Stage

# In the order they run. Each takes the stage and whether it is to be quick.
PARTS: Mapping[str, Callable[[Stage, bool], list[Row]]] = {
    "publish": measure_publish,
    "insert": measure_insert,
    "lag": measure_lag,
    "memory": measure_memory,
}
