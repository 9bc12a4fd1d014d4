"""What a new operator needs: an entry in its family, in each of the places that have a rule an operator.

The operator table (``graphpress.ops``) splits operators into families; the translations to PyTorch and the rules of
TensorRT's network stand in modules of the same names. Who lacks an operator says so here, with the reason.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Mapping
from importlib import import_module

import pytest

from graphpress.backends.tensorrt.network.table import RULES, WITHOUT_RULE
from graphpress.ops import FAMILIES, OPERATORS

CONTROL_FLOW = "its axes and its cost are those of its subgraphs, which are analyzed as graphs of their own"
FUSED = "a kernel of ONNX Runtime's own, which is met only in models that it has optimized"

NOT_IN_THE_TABLE = {"If": CONTROL_FLOW, "Loop": CONTROL_FLOW, "Scan": CONTROL_FLOW, "com.microsoft:Gelu": FUSED}
"""Operators that have a rule elsewhere and no entry in the operator table."""

NOT_TRANSLATED: Mapping[str, str] = {}
"""Operators without a translation to PyTorch."""

NOT_LOWERED = {**WITHOUT_RULE, "com.microsoft:Gelu": FUSED}
"""Operators without a rule of TensorRT's network."""


@pytest.fixture(scope="module")
def translations():
    pytest.importorskip("torch", reason="the bridge needs PyTorch: pip install 'graphpress[torch]'")
    from graphpress.torch_bridge.ops import TRANSLATIONS

    return TRANSLATIONS


@pytest.fixture(scope="module")
def operators(translations):
    return OPERATORS.rules.keys() | translations.rules.keys() | RULES.rules.keys()


def test_the_operator_table_lacks_none_without_a_reason(operators):
    assert operators - OPERATORS.rules.keys() == NOT_IN_THE_TABLE.keys()


def test_the_bridge_lacks_none_without_a_reason(operators, translations):
    assert operators - translations.rules.keys() == NOT_TRANSLATED.keys()


def test_the_network_lacks_none_without_a_reason(operators):
    assert operators - RULES.rules.keys() == NOT_LOWERED.keys()


def test_an_operator_is_of_one_family_everywhere(translations):
    for registry in (OPERATORS, translations, RULES):
        for other in (OPERATORS, translations, RULES):
            common = registry.families.keys() & other.families.keys()
            assert {name: registry.families[name] for name in common} == {name: other.families[name] for name in common}


def keys_of(module):
    """The operators that a family lists, each as often as it does."""
    (returned,) = (
        node.value for node in ast.walk(ast.parse(inspect.getsource(module.entries))) if isinstance(node, ast.Return)
    )
    if not isinstance(returned, ast.Dict):
        return list(module.entries())
    keys = []
    for key, value in zip(returned.keys, returned.values, strict=True):
        merged = (
            eval(compile(ast.Expression(value), module.__name__, "eval"), vars(module))
            if key is None
            else [ast.literal_eval(key)]
        )
        keys += merged
    return keys


@pytest.mark.parametrize(
    "package", ["graphpress.ops", "graphpress.torch_bridge.ops", "graphpress.backends.tensorrt.network"]
)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_lists_an_operator_once(package, family):
    if package == "graphpress.torch_bridge.ops":
        pytest.importorskip("torch")
    keys = keys_of(import_module(f"{package}.{family}"))
    assert keys
    assert len(keys) == len(set(keys))
