"""Backends: what turns a finished graph into something a device runs. One folder each."""
