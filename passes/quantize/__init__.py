"""Quantisation passes: placement, observation, encodings."""
