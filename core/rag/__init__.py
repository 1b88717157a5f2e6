"""Retrieval: a question in, passages out, with where they come from."""

from core.rag.search import Hit, Query, Retriever

__all__ = ["Hit", "Query", "Retriever"]
