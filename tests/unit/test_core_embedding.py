"""The model behind its seam: packaged weights, offsets, and what they are for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from core.config import EmbeddingConfig
from core.embedding import Embedder, load_embedder
from core.embedding.model import _WINDOW, has_bfloat16
from core.embedding.packaged import packaged_model
from core.errors import ConfigurationError

pytestmark = pytest.mark.model

_MODEL = "sentence-transformers/all-MiniLM-L6-v2"


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    """The default model, loaded once."""
    return load_embedder(EmbeddingConfig(model=_MODEL, max_tokens=256, size=384, device="cpu"))


def test_vectors_are_unit_vectors_in_order(embedder: Embedder) -> None:
    """Shape, type and length are those of the contract, whatever the order of lengths."""
    texts = ["short", "a much longer sentence about nothing at all " * 10, "middle one here"]
    vectors = embedder.embed_documents(texts)
    assert vectors.shape == (3, 384)
    assert vectors.dtype == np.float32
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-3)
    alone = np.vstack([embedder.embed_documents([text]) for text in texts])
    assert np.all(np.sum(vectors * alone, axis=1) > 0.999)


def test_what_means_the_same_is_near(embedder: Embedder) -> None:
    """A question is nearer to its answer than to another text."""
    question = np.array(embedder.embed_query("How do I bake bread?"))
    bread, orbit = embedder.embed_documents(["Knead the dough and bake it.", "Io orbits Jupiter."])
    assert question @ bread > question @ orbit + 0.2


def test_tokens_leave_room_for_the_special_ones(embedder: Embedder) -> None:
    """256 tokens are 254 of text."""
    assert embedder.max_tokens == 254


def test_a_long_text_is_tokenized_as_one(embedder: Embedder) -> None:
    """Windows cut at line ends, so that the offsets are those of the whole text."""
    line = "Sécurité, 你好 and nn.Module(x) again.\n"
    text = line * (_WINDOW // len(line) + 200)
    starts = list(embedder.token_starts(text))
    expected = [o + n * len(line) for n in range(2) for o in embedder.token_starts(line)]
    assert starts[: len(expected)] == expected
    assert len(starts) == len(embedder.token_starts(line)) * text.count("\n")
    assert starts == sorted(starts)
    assert list(embedder.token_starts("")) == []


def test_the_packaged_weights_are_used_for_their_model_only() -> None:
    """The default comes from a package, by either of its names; other models do not."""
    folder = packaged_model(_MODEL)
    assert folder is not None
    assert folder == packaged_model("all-MiniLM-L6-v2")
    assert packaged_model("intfloat/multilingual-e5-small") is None


def test_a_size_that_the_model_has_not_names_its_variable() -> None:
    """A wrong EMBEDDING_SIZE is one clear error, before anything is stored."""
    config = EmbeddingConfig(model=_MODEL, max_tokens=256, size=768, device="cpu")
    with pytest.raises(ConfigurationError, match=r"^EMBEDDING_SIZE: .*384"):
        load_embedder(config)


def test_bfloat16_is_used_where_the_processor_has_it(tmp_path: Path) -> None:
    """The processor's flags decide; where there are none to read, it is not used."""
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("processor : 0\nflags\t\t: fpu avx512_bf16 sse\nbugs : none\n")
    assert has_bfloat16(cpuinfo)
    cpuinfo.write_text("processor : 0\nflags\t\t: fpu sse\nbugs : avx512_bf16\n")
    assert not has_bfloat16(cpuinfo)
    assert not has_bfloat16(tmp_path / "none")
