"""Text to vectors: the seam, and the model behind it. torch is imported only when one is loaded."""

from core.embedding.model import Embedder, load_embedder

__all__ = ["Embedder", "load_embedder"]
