"""Tide prediction for small harbours."""
