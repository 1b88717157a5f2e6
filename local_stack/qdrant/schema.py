"""What a collection holds: its vectors and payload indexes, as REST and the engine see them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import qdrant_edge as edge

from local_stack.qdrant.errors import BadRequest, NotServed
from local_stack.qdrant.fields import Fields
from local_stack.qdrant.points import dense, sparse

# The engine wants at least one vector; this one is never written, shown or accepted.
_NO_VECTOR = "-none-"

_DISTANCES = {
    "Cosine": edge.Distance.Cosine,
    "Euclid": edge.Distance.Euclid,
    "Dot": edge.Distance.Dot,
    "Manhattan": edge.Distance.Manhattan,
}
_DATATYPES = {
    "float32": edge.VectorStorageDatatype.Float32,
    "float16": edge.VectorStorageDatatype.Float16,
    "uint8": edge.VectorStorageDatatype.Uint8,
}
_MEMORY = {"cold": edge.Memory.Cold, "cached": edge.Memory.Cached, "pinned": edge.Memory.Pinned}


@dataclass(frozen=True)
class DenseVector:
    """A dense vector of a collection; `multi` says that a point has a list of them."""

    size: int
    distance: edge.Distance
    multi: bool = False
    datatype: edge.VectorStorageDatatype | None = None

    @property
    def params(self) -> edge.EdgeVectorParams:
        """As the engine takes it."""
        multi = edge.MultiVectorConfig(edge.MultiVectorComparator.MaxSim) if self.multi else None
        return edge.EdgeVectorParams(
            self.size, self.distance, multivector_config=multi, datatype=self.datatype
        )


@dataclass(frozen=True)
class Schema:
    """The vectors of a collection by name. The name of an unnamed vector is empty."""

    dense: dict[str, DenseVector] = field(default_factory=dict)
    sparse: dict[str, edge.Modifier | None] = field(default_factory=dict)

    def engine_config(self) -> edge.EdgeConfig:
        """The configuration of a new shard.

        No HNSW index: building one would hold the interpreter for seconds, while
        an exact search among 100,000 vectors of 384 numbers takes 5 ms.
        """
        found = {
            name: edge.EdgeSparseVectorParams(modifier=modifier)
            for name, modifier in self.sparse.items()
        }
        if not found and not self.dense:
            found = {_NO_VECTOR: edge.EdgeSparseVectorParams()}
        return edge.EdgeConfig(
            vectors={name: vector.params for name, vector in self.dense.items()} or None,
            sparse_vectors=found or None,
            optimizers=edge.EdgeOptimizersConfig(indexing_threshold=0),
            max_search_threads=1,
        )

    def vectors_of(self, data: Any) -> dict[str, Any]:
        """The vectors of a point to write. Raises BadRequest for a wrong name or size."""
        if isinstance(data, list):
            data = {"": data}
        if not isinstance(data, dict):
            raise BadRequest("a point needs a field `vector`, an object or a list of numbers")
        return {name: self._vector(name, value) for name, value in data.items()}

    def _vector(self, name: str, value: Any) -> Any:
        if name in self.dense:
            return _dense(self.dense[name], value)
        if name in self.sparse:
            return sparse(value)
        raise BadRequest(f"Not existing vector name error: {name}")


def _dense(vector: DenseVector, value: Any) -> Any:
    if isinstance(value, dict):
        raise NotServed("inference, or a sparse vector where the collection has a dense one")
    if not isinstance(value, list):
        raise BadRequest("a vector must be a list of numbers")
    if vector.multi:
        return [dense(row, vector.size) for row in value]
    return dense(value, vector.size)


def parse_schema(vectors: Any, sparse_vectors: Any) -> Schema:
    """The vectors that the body of a create request names."""
    given = vectors or {}
    if "size" in given:
        given = {"": given}
    return Schema(
        {name: _dense_params(params) for name, params in given.items()},
        {name: _sparse_params(params) for name, params in (sparse_vectors or {}).items()},
    )


def _dense_params(data: object) -> DenseVector:
    fields = Fields(data, "vectors")
    vector = DenseVector(
        fields.count("size", 0, least=1),
        _choice(_DISTANCES, fields.need("distance", str), "distance"),
        multi=_is_multi(fields.any("multivector_config")),
        datatype=_optional_choice(_DATATYPES, fields.optional("datatype", str), "datatype"),
    )
    fields.harmless(["hnsw_config", "on_disk", "memory"])
    fields.done()
    return vector


def _is_multi(data: object) -> bool:
    if data is None:
        return False
    fields = Fields(data, "multivector_config")
    if fields.need("comparator", str) != "max_sim":
        raise BadRequest("multivector_config: the only comparator is max_sim")
    fields.done()
    return True


def _sparse_params(data: object) -> edge.Modifier | None:
    fields = Fields(data, "sparse_vectors")
    fields.harmless(["index"])
    modifier = fields.take("modifier", str, "none")
    fields.done()
    modifiers = {"none": None, "idf": edge.Modifier.Idf}
    return modifiers[_known(modifiers, modifier, "modifier")]


def _known(choices: dict[str, Any], value: str, what: str) -> str:
    if value not in choices:
        raise BadRequest(f"{what} must be one of {', '.join(choices)}, not {value!r}")
    return value


def _choice(choices: dict[str, Any], value: str, what: str) -> Any:
    return choices[_known(choices, value, what)]


def _optional_choice(choices: dict[str, Any], value: str | None, what: str) -> Any:
    return None if value is None else _choice(choices, value, what)


_INDEXES: dict[str, Any] = {
    "keyword": edge.KeywordIndexParams,
    "integer": edge.IntegerIndexParams,
    "float": edge.FloatIndexParams,
    "geo": edge.GeoIndexParams,
    "text": edge.TextIndexParams,
    "bool": edge.BoolIndexParams,
    "datetime": edge.DatetimeIndexParams,
    "uuid": edge.UuidIndexParams,
}
_INDEX_OPTIONS: dict[str, tuple[str, ...]] = {
    "keyword": ("is_tenant", "prefix"),
    "integer": ("lookup", "range", "is_principal"),
    "float": ("is_principal",),
    "text": ("min_token_len", "max_token_len", "lowercase", "ascii_folding", "phrase_matching"),
    "datetime": ("is_principal",),
    "uuid": ("is_tenant",),
}
_TOKENIZERS = {
    "prefix": edge.TokenizerType.Prefix,
    "whitespace": edge.TokenizerType.Whitespace,
    "word": edge.TokenizerType.Word,
    "multilingual": edge.TokenizerType.Multilingual,
}


def index_params(schema: object) -> Any:
    """A payload index as the engine takes it, from a type's name or an object with its options."""
    fields = Fields({"type": schema} if isinstance(schema, str) else schema, "field_schema")
    kind = fields.need("type", str)
    build = _choice(_INDEXES, kind, "the type of a payload index")
    options = fields.harmless((*_INDEX_OPTIONS.get(kind, ()), "on_disk", "enable_hnsw", "nested"))
    memory = _optional_choice(_MEMORY, fields.optional("memory", str), "memory")
    if kind == "text":
        options["tokenizer"] = _optional_choice(
            _TOKENIZERS, fields.optional("tokenizer", str), "tokenizer"
        )
        options["scoring"] = fields.optional("scoring", bool)
    fields.done()
    return build(**options, memory=memory)
