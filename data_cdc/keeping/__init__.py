"""Where to go on, and how that is kept in MongoDB."""
