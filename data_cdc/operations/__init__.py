"""How the service does: metrics, health, and what is watched beside the stream."""
