"""A model fed by the stream of changes: handwritten digits, classified as they are written."""
