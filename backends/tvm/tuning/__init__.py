"""Choosing by measurement what rules would guess: tiles of kernels, timed on this machine with cold weights.

``rules`` measure nothing. ``quick`` times the dozen tiles that the rules like best; ``deep`` more of them, and then
what lies next to the fastest. Choices are recorded as decisions of the run, and kept in the cache.
"""
