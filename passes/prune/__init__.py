"""Passes that remove whole channels, heads and blocks."""
