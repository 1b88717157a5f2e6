"""Which of several processes captures."""
