"""What tests of every package share."""

from __future__ import annotations

import cProfile
import os
import pstats
import wave
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
from brief_timing import BRIEF_SECONDS, measure_briefly
from hypothesis import HealthCheck, settings
from onnx import helper, numpy_helper

from graphpress import torch_bridge
from graphpress.analysis.shapes import infer_shapes
from graphpress.coupling import Coupling, Keep, couple, remove, unshare
from graphpress.coupling.kept import Kept
from graphpress.driver.config import rivals_of
from graphpress.errors import BackendError
from graphpress.ir import Model, Value, clone, constant, from_proto, is_constant, serialize, to_proto
from graphpress.runtime import Session, measure

# How fast inputs are generated depends on how busy the machine is, and says nothing of the code.
settings.register_profile("graphpress", suppress_health_check=[HealthCheck.too_slow], deadline=None)
settings.load_profile("graphpress")


CHILDREN = str(Path(__file__).parent / "support" / "children")
"""On the path of processes that tests start."""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """A test that turns out to need PyTorch is skipped where it is not installed."""
    try:
        return (yield)
    except BackendError as error:
        if "graphpress[torch]" not in (error.fix or "") or torch_bridge.available().works:
            raise
        pytest.skip(f"{error.what}: {error.fix}")


@pytest.fixture(scope="session", autouse=True)
def _without_rivals() -> Iterator[None]:
    """A run compiles with no second backend, which takes seconds, but in tests that ask for it by ``rivals``."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("graphpress.driver.config.rivals_of", lambda target: {})
        yield


@pytest.fixture(autouse=True)
def _without_rivals_in_other_processes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """So do processes that a test starts: they find no C compiler, without which the rival compiles nothing."""
    if "rivals" not in request.fixturenames and "backends/tvm" not in request.path.as_posix():
        monkeypatch.setenv("CC", "no-compiler-in-tests")


@pytest.fixture(scope="session", autouse=True)
def _measured_briefly() -> Iterator[None]:
    """Speed is measured for moments only, here and in processes that tests start; tests of speed say how long."""
    measure_briefly(measure)
    with pytest.MonkeyPatch.context() as patch:
        for name in ("driver.choice.MEASURED_SECONDS", "allocation.speedup.SECONDS", "allocation.speedup.LONG_SECONDS"):
            patch.setattr(f"graphpress.{name}", BRIEF_SECONDS["seconds"])
        patch.setenv("PYTHONPATH", CHILDREN, prepend=os.pathsep)
        yield


@pytest.fixture
def rivals(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a run compile with the rivals of its target's backend, as it does outside of tests."""
    monkeypatch.setattr("graphpress.driver.config.rivals_of", rivals_of)


def count_calls(call: Callable[[], object]) -> int:
    """How many function calls it takes: a measure of work that does not depend on how busy the machine is."""
    profile = cProfile.Profile()
    profile.runcall(call)
    return pstats.Stats(profile).total_calls


@pytest.fixture
def work() -> Callable[[Callable[[], object]], int]:
    """Counts the function calls that something takes."""
    return count_calls


# -- real data without labels -----------------------------------------------------------------------------------


@pytest.fixture
def squares() -> np.ndarray:
    """Coarse colored squares, 0 to 255: (16, 3, 320, 320)."""
    coarse = np.random.default_rng(0).uniform(0, 255, (16, 3, 20, 20)).astype(np.float32)
    return coarse.repeat(16, axis=2).repeat(16, axis=3)


@pytest.fixture
def recording() -> np.ndarray:
    """A recording of singing at 22,050 Hz, in windows: (windows, 43844, 1)."""
    if "GRAPHPRESS_DATA" not in os.environ:
        pytest.skip("GRAPHPRESS_DATA is not set")
    with wave.open(f"{os.environ['GRAPHPRESS_DATA']}/vocadito_10.wav") as file:
        samples = np.frombuffer(file.readframes(file.getnframes()), np.int16).astype(np.float32) / 2**15
        assert file.getframerate() == 44100
    samples = samples[: len(samples) // 2 * 2].reshape(-1, 2).mean(axis=1)
    return samples[: len(samples) // 43844 * 43844].reshape(-1, 43844, 1)


@pytest.fixture
def unlabeled(request: pytest.FixtureRequest) -> Callable[[str], np.ndarray]:
    """Data for the real models that come without labels, by the name of the model."""
    return lambda model: request.getfixturevalue("squares" if model.startswith("yunet") else "recording")


# -- pruning is sound -------------------------------------------------------------------------------------------

RECURRENT = ("GRU", "LSTM", "RNN")
SUMMED = {"Conv": (0,), "ConvTranspose": (0,), "DeformConv": (0,), "Gemm": (0, 1), "Attention": (0, 1, 2)}
"""Inputs that an operator contracts; every input of the others in ``SUMS_ALL``."""

SUMS_ALL = ("MatMul", "Einsum")


@dataclass(frozen=True)
class Pruned:
    """A model, what was removed from it, and what is left.

    Args:
        original: the model before, each shared constant unshared.
        model: the model after.
        coupling: the groups of ``original``.
        keep: what stays of each group.
        kept: what ``remove`` says is left of each value.
    """

    original: Model
    model: Model
    coupling: Coupling
    keep: Keep
    kept: dict[str, Kept]

    @staticmethod
    def by(model: Model, choose: Callable[[Coupling], Keep], **options: object) -> Pruned:
        """Couple, choose and remove, in a copy."""
        original = clone(model)
        infer_shapes(original)
        unshare(original)
        smaller = clone(original)
        coupling = couple(smaller, **options)
        keep = choose(coupling)
        return Pruned(original, smaller, coupling, keep, remove(smaller, coupling, keep))

    def parameters_kept(self) -> float:
        """Elements of floating-point constants after, as a part of those before."""
        return parameters(self.model) / parameters(self.original)

    def masked(self) -> Model:
        """The original with zeros in place of the removed positions of whatever a contraction reads, which is the
        same as zeroing every slice of a weight that reads a removed position.
        """
        proto, masks, fixed = to_proto(self.original), self._masks(), _constants(self.original)
        nodes: list[onnx.NodeProto] = []
        for node in proto.graph.node:
            summed = range(len(node.input)) if node.op_type in SUMS_ALL else SUMMED.get(node.op_type, ())
            data = [index for index in summed if index < len(node.input) and node.input[index] not in fixed]
            if node.op_type in RECURRENT:  # the state is read through the columns of R
                data = [0, 2]
            for index in data or summed:  # of two constants, either may be taken for the data
                for number, mask in enumerate(masks.get(node.input[index], [])):
                    fresh = f"{node.output[0]}@{index}.{number}"
                    proto.graph.initializer.append(numpy_helper.from_array(mask, f"{fresh}.mask"))
                    nodes.append(helper.make_node("Mul", [node.input[index], f"{fresh}.mask"], [fresh]))
                    node.input[index] = fresh
            nodes.append(node)
        del proto.graph.node[:]
        proto.graph.node.extend(nodes)
        return from_proto(proto, where="masked")

    def _masks(self) -> dict[str, list[np.ndarray]]:
        """Zeros and ones for each float value that loses positions, one array per axis, ready to broadcast."""
        found: dict[str, list[np.ndarray]] = {}
        for group in self.coupling.groups:
            stays = np.append(self.keep.get(group.name, np.ones(group.size, bool)), True)
            for place in (*group.constants, *group.features):
                dtype = place.value.dtype
                if dtype is not None and dtype.is_floating_point() and not stays[place.units].all():
                    rank = len(self.coupling.channels.axes[place.value])
                    shape = [len(place.units) if axis == place.axis else 1 for axis in range(rank)]
                    mask = stays[place.units].astype(dtype.numpy()).reshape(shape)
                    found.setdefault(place.value.name, []).append(mask)
        return found

    def worst(self, feed: dict[str, np.ndarray]) -> dict[str, float]:
        """For each output and each float tensor on the way, by name: the largest difference between the masked
        original, at the kept positions, and the pruned model, relative to the tensor's largest magnitude.
        """
        names = _tensors(self.original) & _tensors(self.model)
        before, after = (
            Session(model, optimization="none", extra_outputs=sorted(names)).run(feed)
            for model in (self.masked(), self.model)
        )
        return {name: _difference(_at(before[name], self.kept.get(name)), after[name]) for name in sorted(before)}


def _constants(model: Model) -> dict[str, Value]:
    """Initializers and the results of Constant nodes, by name."""
    inner = (value for node in model.graph for value in node.outputs if node.op_type == "Constant")
    return {value.name: value for value in (*model.graph.initializers.values(), *inner)}


def _tensors(model: Model) -> set[str]:
    outputs = (value for node in model.graph for value in node.outputs if not is_constant(value))
    public = {value.name for value in model.graph.outputs}
    return {
        value.name
        for value in outputs
        if value.name and value.name not in public and value.dtype is not None and value.dtype.is_floating_point()
    }


def _at(array: np.ndarray, kept: Kept | None) -> np.ndarray:
    for axis, positions in enumerate(kept or ()):
        array = array if positions is None else array.take(positions, axis)
    return array


def _difference(one: np.ndarray, other: np.ndarray) -> float:
    assert one.shape == other.shape
    if not one.size or np.array_equal(one, other, equal_nan=True):
        return 0.0
    scale = np.abs(one, where=np.isfinite(one), out=np.zeros_like(one)).max()
    return float(np.abs(one - other).max() / max(scale, 1e-6))


def parameters(model: Model) -> int:
    """Elements of the floating-point constants."""
    values = _constants(model).values()
    return sum(constant(value).size for value in values if value.dtype and value.dtype.is_floating_point())


def random_feed(model: Model, batch: int = 2, length: int = 32, seed: int = 0) -> dict[str, np.ndarray]:
    """Random inputs: floats from a standard normal, integers 0 or 1; free sizes are ``batch`` and ``length``."""
    random = np.random.default_rng(seed)
    feed = {}
    for given in model.graph.inputs:
        free = [batch, *[length] * len(given.shape)]
        dims = [dim if isinstance(dim, int) else free[axis] for axis, dim in enumerate(given.shape)]
        drawn = random.standard_normal(dims) if given.dtype.is_floating_point() else random.integers(0, 2, dims)
        feed[given.name] = drawn.astype(given.dtype.numpy())
    return feed


def half_by_norm(coupling: Coupling) -> Keep:
    """The half of each group's units whose weights have the larger squared sum."""
    keep = {}
    for group in coupling.groups:
        scores = np.zeros(group.size + 1)
        for place in group.constants:
            array = np.square(constant(place.value).astype(np.float64))
            others = tuple(axis for axis in range(array.ndim) if axis != place.axis)
            np.add.at(scores, place.units, array.sum(axis=others))
        order = np.argsort(-scores[:-1], kind="stable")
        keep[group.name] = np.isin(np.arange(group.size), order[: (group.size + 1) // 2])
    return keep


def at_random(seed: int) -> Callable[[Coupling], Keep]:
    """From all units of a group down to a twentieth, never none."""
    random = np.random.default_rng(seed)

    def choose(coupling: Coupling) -> Keep:
        keep = {}
        for group in coupling.groups:
            mask = random.random(group.size) >= random.uniform(0, 0.95)
            mask[random.integers(group.size)] = True
            keep[group.name] = mask
        return keep

    return choose


class Pruning:
    """What tests of pruned models call."""

    by = staticmethod(Pruned.by)
    feed = staticmethod(random_feed)
    half = staticmethod(half_by_norm)
    at_random = staticmethod(at_random)

    @staticmethod
    def check(pruned: Pruned) -> None:
        """The ONNX checker, with shape inference."""
        onnx.checker.check_model(onnx.load_from_string(serialize(pruned.model)), full_check=True)


@pytest.fixture(scope="session")
def pruning() -> type[Pruning]:
    """Prunes models, and compares them with originals in which the removed positions are masked."""
    return Pruning
