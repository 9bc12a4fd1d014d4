"""Every operator of the table computes in PyTorch what ONNX says, and its gradients are those of what it computes.

The models are those of the ONNX backend node test-suite, with the results that come with them. A model of one node
is also differentiated, in double precision: the derivative along random directions of the floats that go in is
compared with central differences, at a point a little beside the suite's, which often lies on a kink (zeros, ties).
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx.backend.test.case.node import collect_testcases

from graphpress.bridge import load_bridge
from graphpress.ir import Model, from_proto, graphs
from graphpress.ir.values import STANDARD_DOMAINS
from graphpress.ops import table

torch = pytest.importorskip("torch", reason="the bridge needs PyTorch: pip install 'graphpress[torch]'")

from graphpress.bridge.pytorch.ops import table as translations  # noqa: E402
from graphpress.bridge.pytorch.tensors import to_array, to_tensor  # noqa: E402

TOLERANCE = 1e-5
"""Relative and absolute; coarser types are off by at most two of their units."""
NUDGE = 1e-3
"""How far beside the suite's point gradients are taken."""
STEP = 1e-6
DIRECTIONS = 3

torch.set_num_threads(1)


@dataclass(frozen=True)
class Case:
    name: str
    proto: onnx.ModelProto
    data_sets: Sequence[tuple[Sequence[Any], Sequence[Any]]]

    @property
    def operator(self) -> str:
        """The operator that the case is about, or "composed" for one that is spelt out in others."""
        nodes = self.proto.graph.node
        return nodes[0].op_type if len(nodes) == 1 else "composed"


@cache
def cases() -> list[Case]:
    """The cases whose operators are all in one of the tables, by name."""
    np.random.seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = sorted(collect_testcases(None), key=lambda case: case.name)
    return [Case(one.name, one.model, one.data_sets) for one in found if one.model is not None and _known(one.model)]


def _known(proto: onnx.ModelProto) -> bool:
    names = {name for _, name in table()} | set(translations())
    return all(_known_nodes(proto.graph, names))


def _known_nodes(graph: onnx.GraphProto, names: set[str]) -> Iterator[bool]:
    for node in graph.node:
        yield node.op_type in names and node.domain in STANDARD_DOMAINS
        for attribute in node.attribute:
            yield from _known_nodes(attribute.g, names)


def module_of(case: Case) -> Any:
    return load_bridge().to_framework(from_proto(case.proto, where=case.name)).module


def array(value: Any) -> np.ndarray:
    return onnx.numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else np.asarray(value)


def tensors(value: Any) -> Any:
    return [tensors(one) for one in value] if isinstance(value, list) else to_tensor(array(value))


# -- forward ----------------------------------------------------------------------------------------------------


def check_forward(case: Case) -> str | None:
    """What is wrong with the results, or None."""
    names = [one.name for one in case.proto.graph.input]
    try:
        module = module_of(case)
        for inputs, wanted in case.data_sets:
            with torch.no_grad():
                got = module({name: tensors(one) for name, one in zip(names, inputs, strict=True)})
            for output, expected in zip(case.proto.graph.output, wanted, strict=True):
                assert_same(got[output.name], expected)
    except Exception as error:
        return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
    return None


def assert_same(got: Any, wanted: Any) -> None:
    if isinstance(wanted, list):
        assert len(got) == len(wanted)
        for one, other in zip(got, wanted, strict=True):
            assert_same(one, other)
        return
    wanted, got = array(wanted), to_array(got)
    assert got.shape == wanted.shape, f"{got.shape} instead of {wanted.shape}"
    assert got.dtype == to_array(to_tensor(wanted)).dtype, f"{got.dtype} instead of {wanted.dtype}"
    if wanted.dtype.kind == "c" or to_tensor(wanted).is_floating_point():
        tolerance = max(TOLERANCE, 2 * float(ml_dtypes.finfo(wanted.dtype).eps))
        wide = np.complex128 if wanted.dtype.kind == "c" else np.float64
        np.testing.assert_allclose(got.astype(wide), wanted.astype(wide), rtol=tolerance, atol=tolerance)
    else:
        np.testing.assert_array_equal(got, wanted.astype(got.dtype))


# -- gradients --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Function:
    """A model as a function from the floats that go in to one number: its float outputs, weighted."""

    module: Any
    fixed: Mapping[str, Any]

    def __call__(self, floats: Mapping[str, Any]) -> Any:
        outputs = self.module({**self.fixed, **floats})
        generator = torch.Generator().manual_seed(1)
        total = torch.zeros((), dtype=torch.float64)
        for name in sorted(outputs):
            tensor = outputs[name]
            if tensor.is_floating_point() and tensor.element_size() > 1:
                weights = torch.randn(tensor.shape, generator=generator, dtype=torch.float64)
                total = total + (weights * torch.where(tensor.isfinite(), tensor, 0).double()).sum()
        return total


def check_gradient(case: Case) -> str | None:
    """What is wrong with the gradients, or None."""
    names = [one.name for one in case.proto.graph.input]
    values = dict(zip(names, (tensors(one) for one in case.data_sets[0][0]), strict=True))
    generator = torch.Generator().manual_seed(0)
    floats = {name: one.double() for name, one in values.items() if not isinstance(one, list) and one.is_floating_point()}
    fixed = {name: one for name, one in values.items() if name not in floats}
    function = Function(module_of(case).double(), fixed)
    for name, tensor in floats.items():
        floats[name] = (tensor + NUDGE * torch.randn(tensor.shape, generator=generator, dtype=torch.float64)).requires_grad_()
    result = function(floats)
    gradients = dict.fromkeys(floats)
    if result.requires_grad:
        gradients = dict(zip(floats, torch.autograd.grad(result, list(floats.values()), allow_unused=True), strict=True))
    faults = []
    for name, gradient in gradients.items():
        for _ in range(DIRECTIONS):
            direction = torch.randn(floats[name].shape, generator=generator, dtype=torch.float64)
            direction = torch.where(floats[name].isfinite(), direction, 0)
            given = 0.0 if gradient is None else float((gradient * direction).sum())
            with torch.no_grad():
                above, below = (
                    float(function({**floats, name: floats[name] + sign * STEP * direction})) for sign in (1, -1)
                )
            measured = (above - below) / (2 * STEP)
            if not abs(given - measured) <= 1e-4 * (1 + abs(measured)):
                faults.append(f"{name}: {given} instead of {measured} {'(none)' if gradient is None else ''}")
    return "; ".join(faults) or None
