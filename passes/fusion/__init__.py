"""Fusion: several operators become one that computes the same."""
