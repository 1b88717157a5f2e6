"""The configuration of a collection: what a client sends, what is stored, what is shown."""

from __future__ import annotations

from typing import Any

from local_stack.qdrant.errors import NotServed
from local_stack.qdrant.fields import Fields

# These place data, tune speed or describe a cluster of one; no answer depends on them.
_TUNING = ("hnsw_config", "wal_config", "optimizers_config", "payload", "id_tracker")
_SINGLE = ("shard_number", "replication_factor", "write_consistency_factor")

_HNSW = {"m": 16, "ef_construct": 100, "full_scan_threshold": 10000, "max_indexing_threads": 0}
_OPTIMIZER = {
    "deleted_threshold": 0.2,
    "vacuum_min_vector_number": 1000,
    "default_segment_number": 0,
    "flush_interval_sec": 5,
}
_WAL = {"wal_capacity_mb": 32, "wal_segments_ahead": 0}


def parse_create(body: object) -> dict[str, Any]:
    """What to store of a create request. Raises NotServed for what would change answers."""
    fields = Fields(body, "the collection")
    stored: dict[str, Any] = {
        "vectors": fields.take("vectors", dict, {}),
        "sparse_vectors": fields.take("sparse_vectors", dict, {}),
        "metadata": fields.take("metadata", dict, {}),
    }
    _refuse_cluster(fields)
    stored |= _tuning(fields)
    fields.done()
    return stored


def parse_update(body: object, stored: dict[str, Any]) -> dict[str, Any]:
    """`stored` after an update request: metadata is merged, and null removes a key of it."""
    fields = Fields(body, "the update of a collection")
    metadata = {**stored["metadata"], **fields.take("metadata", dict, {})}
    changed = {**stored, "metadata": {k: v for k, v in metadata.items() if v is not None}}
    for name, diff in _tuning(fields).items():
        old = stored.get(name)
        changed[name] = {**old, **diff} if isinstance(old, dict) else diff
    fields.done()
    return changed


def shown(stored: dict[str, Any]) -> dict[str, Any]:
    """The field `config` of a collection's description."""
    params = {
        "vectors": stored["vectors"],
        **dict.fromkeys(_SINGLE, 1),
        "on_disk_payload": stored.get("on_disk_payload", True),
    }
    if stored["sparse_vectors"]:
        params["sparse_vectors"] = stored["sparse_vectors"]
    config = {
        "params": params,
        "hnsw_config": {**_HNSW, **stored.get("hnsw_config", {})},
        "optimizer_config": {**_OPTIMIZER, **stored.get("optimizers_config", {})},
        "wal_config": {**_WAL, **stored.get("wal_config", {})},
    }
    if stored["metadata"]:
        config["metadata"] = stored["metadata"]
    return config


def _refuse_cluster(fields: Fields) -> None:
    for name in _SINGLE:
        if fields.count(name, 1, least=1) != 1:
            raise NotServed(f"`{name}` other than 1")
    if fields.take("sharding_method", str, "auto") != "auto":
        raise NotServed("`sharding_method` other than auto")


def _tuning(fields: Fields) -> dict[str, Any]:
    found: dict[str, Any] = {
        name: {key: value for key, value in fields.need(name, dict).items() if value is not None}
        for name in _TUNING
        if name in fields
    }
    if found.get("optimizers_config", {}).get("prevent_unoptimized"):
        raise NotServed("`prevent_unoptimized`, which hides points until they are indexed")
    if "on_disk_payload" in fields:
        found["on_disk_payload"] = fields.need("on_disk_payload", bool)
    return found
