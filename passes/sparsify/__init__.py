"""Passes that set weights to zero and leave the shapes."""
