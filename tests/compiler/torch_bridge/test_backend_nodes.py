"""Every operator of the table computes in PyTorch what ONNX says, and its gradients are those of what it computes.

The models are those of the ONNX backend node test-suite, with the results that come with them. A model of one node
is differentiated too, in double precision: for each float input the derivative along random directions is compared
with central differences, at a point a little beside the suite's, which often lies on a kink (a zero, a tie).
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import onnx.backend.test
import pytest
from onnx.backend.test.case.node import collect_testcases
from onnx.reference import ReferenceEvaluator

from graphpress import torch_bridge
from graphpress.ir import from_proto
from graphpress.ir.values import STANDARD_DOMAINS
from graphpress.ops import table
from graphpress.runtime import Session

torch = pytest.importorskip("torch", reason="the bridge needs PyTorch: pip install 'graphpress[torch]'")

from graphpress.torch_bridge.ops import TRANSLATIONS
from graphpress.torch_bridge.tensors import to_array, to_tensor

FORWARD, GRADIENT, BOTH = ("forward",), ("gradient",), ("forward", "gradient")

SHORT = "b?float16|float|e8m0_float8e8m0|float8.*"

EXCEPTIONS = [
    # what fails, in which cases (a regular expression), why
    (BOTH, r".*float4e2m1(_.*)?", "PyTorch has no floats of four bits"),
    (BOTH, r"cast.*_no_saturate_.*", "PyTorch's casts to eight-bit floats saturate"),
    (BOTH, r"equal_string.*", "PyTorch has no strings"),
    (BOTH, r"scan_sum", "the form of Scan before operator set 9, with a batch axis"),
    (FORWARD, r"resize_downsample_scales_.*_align_corners", "takes a length that is not rounded; runtimes round it"),
    (FORWARD, r"training_dropout(?!_zero).*", "training mode: a module computes what the model infers"),
    (FORWARD, r"pytorch-converted/softsign|pytorch-operator/operator_add(_.*|constant)", "axes of Add before set 7"),
    (GRADIENT, rf"cast(like)?_(double|{SHORT})_to_(b?float16|float)(_expanded)?", "rounds: differences see steps"),
    (GRADIENT, r"bernoulli(_double)?", "draws anew each time"),
    (GRADIENT, r"mod_float_edge_cases_fmod_0_.*", "divides by a number close to zero: a kink at every step"),
]
"""All that does not pass, and nothing that does. Names are compared without regard to case."""

UNTRANSLATED: dict[str, str] = {}
"""Operators of the table without a translation, and why."""

WITHOUT_CASES = {
    "GlobalLpPool", "MaxRoiPool", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform",
    "RandomUniformLike",
}  # fmt: skip
"""Operators that the suite leaves out, or has inside others only; they have tests of their own."""

RANDOM = {"Bernoulli", "RandomUniformLike"}
"""Operators whose numbers nobody can predict: only type and shape are compared."""

PRINTED = "averagepool_2d_ceil_last_window_starts_on_pad|gridsample_bicubic|roialign_aligned_(false|true)"
"""Cases whose results the suite gives to four digits: they are compared with the reference evaluator's."""

HELD = {"Resize": {"roi", "scales"}}
"""Inputs that pass no gradient though results depend on them: they say where a result is taken."""

TOLERANCE = 1e-5
"""Relative and absolute; coarser types may be off by two of their units."""
NUDGE = 1e-3
"""How far beside the suite's point gradients are taken, upwards: domains are closed below more often than above."""
STEP = 1e-6
DIRECTIONS = 3

SHIPPED = Path(onnx.backend.test.__file__).parent / "data"
COMPOSED_SHARDS = 8

torch.set_num_threads(1)


@dataclass(frozen=True)
class Case:
    name: str
    proto: onnx.ModelProto
    data_sets: Sequence[tuple[Sequence[Any], Sequence[Any]]]

    @property
    def operators(self) -> set[str]:
        return {node.op_type for node in self.proto.graph.node}

    @property
    def operator(self) -> str | None:
        """The operator that the case is about, None for one that is written out in others."""
        nodes = self.proto.graph.node
        return nodes[0].op_type if len(nodes) == 1 else None

    def feed(self, inputs: Sequence[Any], convert: Callable[[Any], Any]) -> dict[str, Any]:
        """Inputs by name, those that are absent left out."""
        held = {tensor.name for tensor in self.proto.graph.initializer}
        names = [info.name for info in self.proto.graph.input if info.name not in held]
        return {name: convert(value) for name, value in zip(names, inputs, strict=True)}


@cache
def cases() -> list[Case]:
    """The cases whose operators are all translated or in the table, by name."""
    np.random.seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        collected = sorted(collect_testcases(None), key=lambda case: case.name)
    names = set(table()) | set(TRANSLATIONS.rules)
    return [
        Case(case.name.removeprefix("test_"), case.model, case.data_sets)
        for case in collected
        if case.model is not None and all(_known(case.model.graph, names))
    ]


def shipped_cases(kind: str) -> list[Case]:
    """Models that come with the suite as files, in operator sets 6 to 9: old forms of operators, with weights."""
    cases = []
    for folder in sorted((SHIPPED / kind).iterdir()):
        data_sets = [
            (_arrays(each, "input"), _arrays(each, "output")) for each in sorted(folder.glob("test_data_set_*"))
        ]
        name = f"{kind}/{folder.name.removeprefix('test_')}"
        cases.append(Case(name, onnx.load(folder / "model.onnx"), data_sets))
    return cases


def _arrays(folder: Path, kind: str) -> list[np.ndarray]:
    files = sorted(folder.glob(f"{kind}_*.pb"), key=lambda file: int(file.stem.split("_")[1]))
    return [onnx.numpy_helper.to_array(onnx.load_tensor(str(file))) for file in files]


def _known(graph: onnx.GraphProto, names: set[str]) -> Iterator[bool]:
    for node in graph.node:
        yield node.op_type in names and node.domain in STANDARD_DOMAINS
        for attribute in node.attribute:
            yield from _known(attribute.g, names)


def module_of(case: Case) -> Any:
    return torch_bridge.to_module(from_proto(case.proto, where=case.name)).module


def array(value: Any) -> np.ndarray:
    return onnx.numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else np.asarray(value)


def tensors(value: Any) -> Any:
    if value is None:
        return None
    return [tensors(part) for part in value] if isinstance(value, list) else to_tensor(array(value))


def is_exception(what: str, case: Case) -> bool:
    return any(what in kinds and re.fullmatch(names, case.name.lower()) for kinds, names, _ in EXCEPTIONS)


def faults(what: str, chosen: Sequence[Case]) -> list[str]:
    """Cases that fail and are no exception, and exceptions that do not fail."""
    check, failures = CHECKS[what], []
    for case in chosen:
        try:
            fault = check(case)
        except Exception as error:
            fault = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        if fault is not None and not is_exception(what, case):
            failures.append(f"{case.name}: {fault}")
        elif fault is None and is_exception(what, case):
            failures.append(f"{case.name}: passes, and is listed among the exceptions")
    return failures


# -- forward ----------------------------------------------------------------------------------------------------


def check_forward(case: Case) -> str | None:
    """What is wrong with the results, or None."""
    module = module_of(case)
    for inputs, wanted in case.data_sets:
        if re.fullmatch(PRINTED, case.name):
            wanted = ReferenceEvaluator(case.proto).run(None, case.feed(inputs, array))
        with torch.no_grad():
            got = module(case.feed(inputs, tensors))
        for output, expected in zip(case.proto.graph.output, wanted, strict=True):
            assert_same(got[output.name], expected, values=not case.operators & RANDOM)
    return None


def assert_same(got: Any, wanted: Any, *, values: bool = True) -> None:
    if isinstance(wanted, list):
        assert len(got) == len(wanted)
        for given, expected in zip(got, wanted, strict=True):
            assert_same(given, expected)
        return
    wanted, got = array(wanted), to_array(got)
    expected = to_tensor(wanted)
    assert got.shape == wanted.shape, f"{got.shape} instead of {wanted.shape}"
    assert got.dtype == to_array(expected).dtype, f"{got.dtype} instead of {wanted.dtype}"
    if not values:
        return
    if expected.is_floating_point() or expected.is_complex():
        tolerance = max(TOLERANCE, 2 * float(ml_dtypes.finfo(wanted.dtype).eps))
        wide = np.complex128 if expected.is_complex() else np.float64
        with np.errstate(invalid="ignore"):  # not a number, widened
            np.testing.assert_allclose(got.astype(wide), wanted.astype(wide), rtol=tolerance, atol=tolerance)
    else:
        np.testing.assert_array_equal(got, wanted.astype(got.dtype))


# -- gradients --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Function:
    """A model as a function from its float inputs to one number: the weighted sum of its float outputs."""

    module: Any
    fixed: Mapping[str, Any]

    def __call__(self, floats: Mapping[str, Any]) -> Any:
        """The number, and nothing of results that are not finite."""
        generator = torch.Generator().manual_seed(1)
        total = torch.zeros((), dtype=torch.float64)
        for tensor in self.results(floats):
            weights = torch.randn(tensor.shape, generator=generator, dtype=torch.float64)
            total = total + (weights * torch.where(tensor.isfinite(), tensor, 0).double()).sum()
        return total

    def results(self, floats: Mapping[str, Any]) -> list[Any]:
        outputs = self.module({**self.fixed, **floats})
        flat = [tensor for name in sorted(outputs) for tensor in _flat(outputs[name])]
        return [tensor for tensor in flat if tensor.is_floating_point() and tensor.element_size() > 1]


def _flat(value: Any) -> list[Any]:
    return [tensor for part in value for tensor in _flat(part)] if isinstance(value, list) else [value]


def check_gradient(case: Case) -> str | None:
    """What is wrong with the gradients, or None."""
    feed = case.feed(case.data_sets[0][0], tensors)
    held = HELD.get(case.operator or "", set())
    floats = {name: tensor.double() for name, tensor in feed.items() if _is_float(tensor) and name not in held}
    function = Function(module_of(case).double(), {name: value for name, value in feed.items() if name not in floats})
    generator = torch.Generator().manual_seed(0)
    for name, tensor in floats.items():
        nudge = NUDGE * (1 + torch.rand(tensor.shape, generator=generator, dtype=torch.float64))
        floats[name] = (tensor + nudge).requires_grad_()
    wrong = []
    for name, gradient in gradients(function, floats).items():
        for _ in range(DIRECTIONS):
            direction = torch.randn(floats[name].shape, generator=generator, dtype=torch.float64)
            direction = torch.where(floats[name].isfinite() & gradient.isfinite(), direction, 0)
            given = float(torch.where(direction == 0, 0, gradient * direction).sum())
            measured = difference(function, floats, name, direction)
            if not abs(given - measured) <= 1e-4 * (1 + abs(measured)):
                wrong.append(f"{name}: {given:.6} instead of {measured:.6}")
    return "; ".join(wrong) or None


def _is_float(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.is_floating_point()


def gradients(function: Function, floats: Mapping[str, Any]) -> dict[str, Any]:
    """The gradient for each input, zero where none flows; finite wherever all results are."""
    total = function(floats)
    if not total.requires_grad:
        return {name: torch.zeros_like(tensor) for name, tensor in floats.items()}
    flown = torch.autograd.grad(total, list(floats.values()), allow_unused=True, materialize_grads=True)
    if all(tensor.isfinite().all() for tensor in function.results(floats)):
        assert all(tensor.isfinite().all() for tensor in flown), "a gradient is not finite"
    return dict(zip(floats, flown, strict=True))


def difference(function: Function, floats: Mapping[str, Any], name: str, direction: Any) -> float:
    """The central difference along a direction of one input."""
    with torch.no_grad():
        above = function({**floats, name: floats[name] + STEP * direction})
        below = function({**floats, name: floats[name] - STEP * direction})
    return float(above - below) / (2 * STEP)


CHECKS = {"forward": check_forward, "gradient": check_gradient}

# -- tests ------------------------------------------------------------------------------------------------------

OPERATORS = sorted(set(table()) | {name for name in TRANSLATIONS.rules if ":" not in name})


def of_operator(operator: str) -> list[Case]:
    return [case for case in cases() if case.operator == operator]


def of_shard(shard: int) -> list[Case]:
    return [case for case in cases() if case.operator is None][shard::COMPOSED_SHARDS]


def test_every_operator_of_the_table_has_a_translation() -> None:
    assert set(table()) - set(TRANSLATIONS.rules) == set(UNTRANSLATED)


@pytest.mark.parametrize("operator", OPERATORS)
def test_results_and_gradients_of_one_operator(operator: str) -> None:
    chosen = of_operator(operator)
    assert bool(chosen) == (operator not in WITHOUT_CASES)
    assert faults("forward", chosen) + faults("gradient", chosen) == []


@pytest.mark.parametrize("shard", range(COMPOSED_SHARDS))
def test_results_of_operators_together(shard: int) -> None:
    assert faults("forward", of_shard(shard)) == []


@pytest.mark.parametrize("kind", ["pytorch-converted", "pytorch-operator"])
def test_results_of_shipped_models(kind: str) -> None:
    assert faults("forward", shipped_cases(kind)) == []


@pytest.mark.parametrize("name", ["densenet121", "inception_v2", "resnet50", "shufflenet", "squeezenet"])
def test_whole_networks_compute_what_the_runtime_does(name: str) -> None:
    model = from_proto(onnx.load(SHIPPED / "light" / f"light_{name}.onnx"))
    session = Session(model)
    generator = np.random.default_rng(0)
    feed = {spec.name: generator.random(spec.dims, np.float32) for spec in session.inputs}
    with torch.no_grad():
        got = torch_bridge.to_module(model).module({name: tensors(array) for name, array in feed.items()})
    for output, wanted in session.run(feed).items():
        np.testing.assert_allclose(to_array(got[output]), wanted, rtol=1e-4, atol=1e-5)


def test_what_was_checked() -> None:
    """With onnx 1.23: 1637 cases, of which 1590 forward and 934 by their gradients, 747 of which are not all zero.

    And 117 shipped models.
    """
    forward = [case for case in cases() if not is_exception("forward", case)]
    candidates = [case for case in cases() if case.operator and not is_exception("gradient", case)]
    differentiated = [
        case for case in candidates if any(map(_is_float, case.feed(case.data_sets[0][0], tensors).values()))
    ]
    assert len(forward) >= 1500
    assert len(differentiated) >= 900
    for _, names, _ in EXCEPTIONS:
        assert "/" in names or any(re.fullmatch(names, case.name.lower()) for case in cases()), names
