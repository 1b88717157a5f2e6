"""Sentence-transformers models behind a small seam."""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from core.config import EmbeddingConfig
from core.embedding.packaged import packaged_model
from core.errors import ConfigurationError, MissingDependency

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Vectors = npt.NDArray[np.float32]

_BATCH = 32
_BFLOAT16_FLAGS = frozenset({"avx512_bf16", "amx_bf16"})
# Characters that are tokenized at once.
_WINDOW = 100_000
# So many texts are embedded sooner by one thread than by several that wait for each other.
_FEW = 2
# Threads that wait give the processor back. On two cores that others use too, this took the
# embedding of one passage from 530 to 50 ms. Read when torch is imported.
_QUIET_THREADS = {
    "OMP_WAIT_POLICY": "PASSIVE",
    "GOMP_SPINCOUNT": "0",
    "TOKENIZERS_PARALLELISM": "false",
}
# Special tokens around a text: [CLS] and [SEP] in BERT's family.
_SPECIAL_TOKENS = 2


class Embedder(Protocol):
    """What turns text into vectors. Not safe for several threads at once."""

    @property
    def identity(self) -> str:
        """Names the model: vectors of two identities do not compare."""

    @property
    def size(self) -> int:
        """Dimensions of a vector."""

    @property
    def max_tokens(self) -> int:
        """Tokens of text that one vector takes in, special ones not counted."""

    def token_starts(self, text: str) -> Sequence[int]:
        """The offsets in `text` at which the model's tokens begin, ascending."""

    def embed_documents(self, texts: Sequence[str]) -> Vectors:
        """Unit vectors, float32, shape (len(texts), size), in the order of `texts`."""

    def embed_query(self, text: str) -> Sequence[float]:
        """The unit vector of a question, length `size`."""


class SentenceTransformerEmbedder:
    """One loaded model. Batches are sorted by length, so that padding costs little."""

    def __init__(self, config: EmbeddingConfig) -> None:
        self.identity = config.model
        self._model = _load(config)
        self.size = _checked_size(self._model, config)
        self.max_tokens = _budget(self._model, config) - _SPECIAL_TOKENS
        self._threads = _processor_threads()
        self._bfloat16 = config.device == "cpu" and has_bfloat16()

    def token_starts(self, text: str) -> Sequence[int]:
        """The offsets in `text` at which the model's tokens begin, ascending."""
        starts = array("I")
        for begin, end in _windows(text):
            encoded = self._model.tokenizer(
                text[begin:end],
                add_special_tokens=False,
                return_offsets_mapping=True,
                return_attention_mask=False,
                truncation=False,
                verbose=False,
            )
            starts.extend(begin + start for start, _ in encoded["offset_mapping"])
        return starts

    def embed_documents(self, texts: Sequence[str]) -> Vectors:
        """Unit vectors, float32, shape (len(texts), size), in the order of `texts`."""
        import torch

        torch.set_num_threads(self._threads if len(texts) > _FEW else 1)
        with torch.inference_mode(), self._autocast():
            vectors: Vectors = self._model.encode_document(
                list(texts),
                batch_size=_BATCH,
                normalize_embeddings=True,
                show_progress_bar=False,
                convert_to_numpy=True,
            )
        return vectors.astype("float32", copy=False)

    def embed_query(self, text: str) -> Sequence[float]:
        """The unit vector of a question, length `size`."""
        import torch

        torch.set_num_threads(1)
        with torch.inference_mode(), self._autocast():
            vector = self._model.encode_query(
                text, normalize_embeddings=True, show_progress_bar=False, convert_to_numpy=True
            )
        values: list[float] = vector.astype("float32").tolist()
        return values

    def _autocast(self) -> Any:
        import torch

        return torch.autocast("cpu", dtype=torch.bfloat16, enabled=self._bfloat16)


def load_embedder(config: EmbeddingConfig) -> Embedder:
    """Load the configured model, which takes seconds and memory: do it once a process.

    Packaged weights come first; a hub is asked for other models only. Raises
    ConfigurationError or MissingDependency.
    """
    return SentenceTransformerEmbedder(config)


def has_bfloat16(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether the processor computes in bfloat16, which is then 2 to 3 times as fast.

    Mean cosine to float32 is 1.0000 for all-MiniLM-L6-v2.
    """
    try:
        flags = cpuinfo.read_text().partition("flags")[2].partition("\n")[0].split()
    except OSError:
        return False
    return not _BFLOAT16_FLAGS.isdisjoint(flags)


def _windows(text: str) -> Iterator[tuple[int, int]]:
    """Stretches of whole lines: what a tokenizer tells of each character takes 100 bytes or so.

    A line longer than a window is cut; a token there may begin at the cut.
    """
    begin = 0
    while begin < len(text):
        end = begin + _WINDOW
        newline = text.rfind("\n", begin, end) if end < len(text) else -1
        end = newline + 1 if newline > begin else end
        yield begin, min(end, len(text))
        begin = end


def _processor_threads() -> int:
    import torch

    count: int = torch.get_num_threads()
    return count


def _load(config: EmbeddingConfig) -> Any:
    folder = packaged_model(config.model)
    if folder is not None:
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
    for name, value in _QUIET_THREADS.items():
        os.environ.setdefault(name, value)
    try:
        from sentence_transformers import SentenceTransformer
        from transformers.utils import logging as transformers_logging
    except ImportError as error:
        raise MissingDependency(
            "sentence-transformers", "Install the extra: pip install 'llm-twin[features]'."
        ) from error
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        return SentenceTransformer(
            str(folder or config.model),
            device=config.device,
            local_files_only=folder is not None,
        )
    except (OSError, ValueError, RuntimeError, AssertionError) as error:
        problem = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
        # Packaged weights were checked above, so it is not for them.
        variable = "EMBEDDING_MODEL_ID" if folder is None else "EMBEDDING_MODEL_DEVICE"
        raise ConfigurationError(
            variable, f"cannot load {config.model!r} on {config.device!r}: {problem}"
        ) from error


def _checked_size(model: Any, config: EmbeddingConfig) -> int:
    size = int(model.get_embedding_dimension())
    if size != config.size:
        raise ConfigurationError(
            "EMBEDDING_SIZE",
            f"is {config.size}, and {config.model} makes vectors of size {size}",
            f"Set EMBEDDING_SIZE={size}.",
        )
    return size


def _budget(model: Any, config: EmbeddingConfig) -> int:
    return min(config.max_tokens, int(model.max_seq_length or config.max_tokens))
