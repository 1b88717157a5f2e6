"""Qdrant: a client, the collections with their names and indexes, and reading what is stored."""
