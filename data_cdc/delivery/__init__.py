"""The way to the broker: a bounded window, confirms, and what does not fit."""
