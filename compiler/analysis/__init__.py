"""Analyses: shapes, cost, memory and how channels depend on each other."""
