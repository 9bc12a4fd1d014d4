"""What changes a graph: one pass a file, one folder a family."""
