"""Coupled groups of channels: which slices of which constants must live or die together, and their removal."""
