"""A GitHub repository: a bare, shallow, filtered clone, read without a checkout."""
