"""The embedded Qdrant: the real engine in this process, behind Qdrant's REST API."""
