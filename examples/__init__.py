"""Small programs that use the stack, to read and to begin one's own from."""
