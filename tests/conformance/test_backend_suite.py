"""Every model of the ONNX backend test-suite computes the same after the lossless passes as before."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.backend.test
import pytest
from onnx import numpy_helper
from onnx.backend.test.case.node import collect_testcases
from onnx.reference import ReferenceEvaluator

from graphpress.errors import GraphpressError
from graphpress.ir import Model, clone, from_proto, to_proto, verify, weight_bytes
from graphpress.manager.contract import Context, Pass
from graphpress.manager.recipe import from_text
from graphpress.runtime import Infer, Session
from graphpress.targets import load_target

PIPELINES = {"as it comes": "cleanup,fuse", "in a newer operator set": "raise_opset{to=24},cleanup,fuse"}
"""What users run, every fusion included whether it pays on a target or not."""

TOLERANCE = {2: (5e-3, 1e-3), 4: (1e-4, 1e-5), 8: (1e-8, 1e-9)}
"""Relative and absolute, by bytes of the float: rounding changes where constants are combined."""
ROUNDS = 10
"""Rounds after which the passes must have settled."""
SHARDS = 16
MAX_GROWTH = 1 << 20
SHIPPED = Path(onnx.backend.test.__file__).parent / "data"


@dataclass
class Case:
    name: str
    model: onnx.ModelProto
    feeds: list[list[Any]]


@cache
def passes(pipeline: str) -> tuple[Pass, ...]:
    return from_text(PIPELINES[pipeline]).passes


def node_cases() -> list[Case]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [
            Case(case.name, case.model, [list(inputs) for inputs, _ in case.data_sets])
            for case in _collected()
            if case.model is not None
        ]


@cache
def _collected() -> list[Any]:
    np.random.seed(0)
    return sorted(collect_testcases(None), key=lambda case: case.name)


def shipped_cases(kind: str) -> Iterator[Case]:
    for folder in sorted((SHIPPED / kind).iterdir()):
        file = folder if folder.suffix == ".onnx" else folder / "model.onnx"
        if file.is_file():
            yield Case(f"{kind}/{folder.name}", onnx.load(file), list(_stored_feeds(folder)))


def _stored_feeds(folder: Path) -> Iterator[list[np.ndarray]]:
    for data_set in sorted(folder.glob("test_data_set_*")):
        files = sorted(data_set.glob("input_*.pb"), key=lambda file: int(file.stem.split("_")[1]))
        try:
            yield [numpy_helper.to_array(onnx.load_tensor(str(file))) for file in files]
        except Exception:  # a sequence or optional input: structure is checked all the same
            continue


def settle(model: Model, pipeline: str) -> int:
    """Apply all passes until nothing changes; the number of changes."""
    context = Context(load_target("cpu"), clone(model))
    total = 0
    for _ in range(ROUNDS):
        changes = 0
        for each in passes(pipeline):
            if each.refuse(model, context) is not None:
                continue
            done = each.run(model, context).changes
            if done:
                verify(model)
            changes += done
        if not changes:
            return total
        total += changes
    raise AssertionError(f"not settled after {ROUNDS} rounds")


def check(case: Case, pipeline: str) -> str | None:
    """What is wrong with this case, or None."""
    try:
        before = from_proto(case.model, where=case.name)
    except GraphpressError:
        return None  # refused with a reason
    after = clone(before)
    try:
        changes = settle(after, pipeline)
        verify(after)
    except Exception as error:
        return f"{case.name}: {type(error).__name__}: {error}"
    if weight_bytes(after) > weight_bytes(before) + MAX_GROWTH:
        return f"{case.name}: grew from {weight_bytes(before)} to {weight_bytes(after)} bytes"
    if [value.name for value in after.graph.outputs] != [value.name for value in before.graph.outputs]:
        return f"{case.name}: the outputs' names changed"
    return _compare(case, before, after) if changes else None


def _compare(case: Case, before: Model, after: Model) -> str | None:
    feeds = [feed for feed in case.feeds if all(isinstance(array, np.ndarray) for array in feed)]
    try:
        original = Session(before, optimization="none")
        expected = [original.run(_named(original, feed)) for feed in feeds or [_made_up(original)]]
    except GraphpressError:
        return None  # this runtime has no kernel for it: the structure was verified
    try:
        changed = _runner(after, original)
        for feed, wanted in zip(feeds or [_made_up(original)], expected, strict=True):
            got = changed(_named(original, feed) if feeds else feed)
            for name, array in wanted.items():
                assert_same(got[name], array)
    except (GraphpressError, AssertionError) as error:
        return f"{case.name}: {type(error).__name__}: {' '.join(str(error).split())[:300]}"
    return None


def _runner(model: Model, original: Session) -> Infer:
    """ONNX Runtime, or the reference evaluator for a fused operator of a type that this runtime has no kernel for."""
    try:
        return Session(model, optimization="none")
    except GraphpressError as error:
        if "find an implementation" not in error.what:
            raise
    reference = ReferenceEvaluator(to_proto(model))
    return lambda feed: dict(zip(original.output_names, reference.run(None, dict(feed)), strict=True))


def _named(session: Session, feed: Any) -> dict[str, Any]:
    return feed if isinstance(feed, dict) else dict(zip((spec.name for spec in session.inputs), feed, strict=False))


def _made_up(session: Session) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    return {
        spec.name: generator.random([size if isinstance(size, int) else 2 for size in spec.dims or ()]).astype(
            spec.dtype
        )
        for spec in session.inputs
    }


def assert_same(got: Any, wanted: Any) -> None:
    if isinstance(wanted, list):
        assert len(got) == len(wanted)
        for given, expected in zip(got, wanted, strict=True):
            assert_same(given, expected)
    elif isinstance(wanted, np.ndarray):
        assert got.dtype == wanted.dtype
        assert got.shape == wanted.shape
        if wanted.dtype.kind == "f":
            rtol, atol = TOLERANCE[wanted.itemsize]
            np.testing.assert_allclose(got, wanted, rtol=rtol, atol=atol)
        else:
            np.testing.assert_array_equal(got, wanted)
    else:
        assert got == wanted


@pytest.mark.parametrize("shard", range(SHARDS))
@pytest.mark.parametrize("pipeline", PIPELINES)
def test_node_cases(pipeline: str, shard: int) -> None:
    assert [fault for case in node_cases()[shard::SHARDS] if (fault := check(case, pipeline))] == []


@pytest.mark.parametrize("kind", ["simple", "light", "pytorch-converted", "pytorch-operator"])
@pytest.mark.parametrize("pipeline", PIPELINES)
def test_shipped_models(pipeline: str, kind: str) -> None:
    assert [fault for case in shipped_cases(kind) if (fault := check(case, pipeline))] == []
