"""Structure-aware fuzzing of the command line: mutants of small models, each through a pipeline in its own process.

A mutant is known by a seed and an index: ``mutant`` makes it from one of ``seeds`` by a few of the changes in
``nodes``, ``patterns``, ``interface``, ``declarations``, ``tensors``, ``annotations``, ``external`` and ``raw``.
``trial`` puts it through a pipeline and judges how that ended; ``campaign`` does so for many, and ``tally`` counts.
"""
