"""Change events in, points out: clean, chunk, compare with what is stored, embed, write."""
