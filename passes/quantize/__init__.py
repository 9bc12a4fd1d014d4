"""Quantization passes: placement, observation, encodings."""
