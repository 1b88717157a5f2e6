"""The demo: the whole path on one machine, with a web of its own, told as it happens."""
