"""The examples in docstrings say what is so."""

import doctest
from importlib import import_module

import pytest


@pytest.mark.parametrize(
    "module", ["allocation", *(f"allocation.{name}" for name in ("costs", "curves", "goal", "knapsack", "speedup"))]
)
def test_examples(module):
    result = doctest.testmod(import_module(f"graphpress.{module}"))
    assert result.attempted
    assert not result.failed
