"""Clean-up: the same graph with less in it, lossless and without new operators."""
