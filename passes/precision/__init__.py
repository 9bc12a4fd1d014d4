"""Passes that choose the float types in which nodes compute."""
