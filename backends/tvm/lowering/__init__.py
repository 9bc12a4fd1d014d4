"""From an annotated graph to a program of kernels: one rule an operator."""
