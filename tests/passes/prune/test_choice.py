"""The defaults: which criterion, what a layer that many read is worth, and channels that are dead already."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx.parser
import pytest
from onnx import numpy_helper

from graphpress import torch_bridge
from graphpress.backend import Availability
from graphpress.coupling import couple
from graphpress.errors import DataError, UsageError
from graphpress.ir import Model, clone, from_proto
from graphpress.manager.contract import Context, Outcome
from graphpress.manager.prepare import prepare
from graphpress.passes.prune._choice import CriterionChoice
from graphpress.passes.prune.criteria import load_criterion
from graphpress.passes.prune.prune import Prune
from graphpress.runtime import Session
from graphpress.targets import load_target
from graphpress.torch_bridge import BridgeError

WIDTH = 16
_CONV = "Conv<kernel_shape=[3,3], pads=[1,1,1,1]>"


def model_of(text: str, **weights: np.ndarray) -> Model:
    proto = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["": 17]> g {text}')
    proto.graph.initializer.extend(
        numpy_helper.from_array(array if array.dtype == np.int64 else array.astype(np.float32), name)
        for name, array in weights.items()
    )
    model = from_proto(proto)
    prepare(model, {})
    return model


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([seed, *shape]).normal(size=shape) / np.prod(shape[1:]) ** 0.5


@pytest.fixture
def plain() -> Model:
    text = f"""(float[N,3,8,8] x) => (float[N,5] y) {{
        a = {_CONV}(x, w1) r = Relu(a) b = {_CONV}(r, w2) g = GlobalAveragePool(b) f = Flatten(g) y = MatMul(f, w3)
    }}"""
    return model_of(text, w1=normal(8, 3, 3, 3), w2=normal(12, 8, 3, 3), w3=normal(12, 5))


def about(model: Model, *, data: bool = True) -> Context:
    feeds = [{"x": np.random.default_rng(1).normal(size=(8, 3, 8, 8)).astype(np.float32)}]
    return Context(load_target("cpu"), model, calibration=feeds if data else None)


def judged(model: Model, context: Context) -> tuple[dict[str, np.ndarray], str]:
    outcome = Outcome()
    _, scores = CriterionChoice().score(model, couple(model), context, outcome)
    return scores, " ".join(outcome.notes)


def assert_judged_by(name: str, model: Model, context: Context, *words: str) -> None:
    scores, note = judged(model, context)
    kind = load_criterion(name)
    wanted = kind(kind.usual).score(model, couple(model), context)
    assert all(np.array_equal(scores[group], wanted[group]) for group in wanted)
    assert all(word in note for word in (f"criterion {name}", *words))


def test_with_data_what_is_measured_judges(plain):
    pytest.importorskip("torch")
    assert_judged_by("taylor", plain, about(plain), "what the outputs lose")


def test_without_data_weights_do(plain):
    assert_judged_by("l2", plain, about(plain, data=False), "there is no calibration data")


def test_without_the_framework_weights_and_what_they_read_do(plain, monkeypatch):
    absent = Availability(False, "torch is not installed", "pip install 'graphpress[torch]'")
    monkeypatch.setattr(torch_bridge, "available", lambda: absent)
    assert_judged_by("wanda", plain, about(plain), "taylor cannot: torch is not installed")


def test_a_model_that_the_framework_does_not_take_is_judged_without_it(plain, monkeypatch):
    pytest.importorskip("torch")

    def refuse(*_, **__):
        raise BridgeError("Foo is not translated", where="foo")

    monkeypatch.setattr(torch_bridge, "to_module", refuse)
    assert_judged_by("wanda", plain, about(plain), "taylor cannot: Foo is not translated")


def test_data_at_fault_is_an_error_and_no_reason_to_judge_otherwise(plain):
    with pytest.raises(DataError, match="empty"):
        judged(plain, replace(about(plain), calibration=[]))


def test_what_was_named_is_not_replaced(plain):
    with pytest.raises(UsageError, match="needs calibration data"):
        CriterionChoice("taylor").check(about(plain, data=False))
    CriterionChoice().check(about(plain, data=False))


# -- a stream that every block reads --------------------------------------------------------------------------


def residual(blocks: int) -> Model:
    lines, weights, at = [f"s0 = {_CONV}(x, stem)"], {"stem": normal(8, 3, 3, 3), "head": normal(8, 5)}, "s0"
    for block in range(blocks):
        lines += [
            f"a{block} = {_CONV}({at}, in{block}) r{block} = Relu(a{block})",
            f"b{block} = {_CONV}(r{block}, out{block}) s{block + 1} = Add(b{block}, {at})",
        ]
        weights[f"in{block}"], weights[f"out{block}"] = (
            normal(8, 8, 3, 3, seed=block),
            normal(8, 8, 3, 3, seed=100 + block),
        )
        at = f"s{block + 1}"
    body = " ".join([*lines, f"g = GlobalAveragePool({at}) f = Flatten(g) y = MatMul(f, head)"])
    return model_of(f"(float[N,3,8,8] x) => (float[N,5] y) {{ {body} }}", **weights)


@pytest.mark.parametrize("criterion", ["l1", "l2", "fpgm"])
def test_a_channel_that_every_block_reads_is_worth_as_many_inner_ones(criterion):
    model = residual(6)
    _, scores = CriterionChoice(criterion).score(model, couple(model), about(model, data=False), Outcome())
    stream, *inner = scores.values()
    assert stream.mean() > 5 * max(scores.mean() for scores in inner)


@pytest.mark.parametrize("data", [False, True])
def test_the_stream_is_not_the_first_to_go(data):
    model = residual(6)
    smaller = clone(model)
    Prune(macs_kept=0.5).run(smaller, about(model, data=data))
    stream = smaller.graph.initializers["stem"].shape[0]
    inner = [smaller.graph.initializers[f"in{block}"].shape[0] for block in range(6)]
    assert stream > np.mean(inner)


# -- channels that are dead already ---------------------------------------------------------------------------


def dead(array: np.ndarray, axis: int, blocks: int = 1) -> np.ndarray:
    """Every other position of an axis, in each block of it, is zero."""
    table = np.moveaxis(array.copy(), axis, 0)
    gone = np.random.default_rng(array.shape[axis]).permutation(len(table) // blocks)[::2]
    table.reshape(blocks, len(table) // blocks, *table.shape[1:])[:, gone] = 0
    return np.moveaxis(table, 0, axis)


def heavy_tailed(*shape: int) -> np.ndarray:
    """Whose readers alone say nothing about which units are alive."""
    return normal(*shape) * np.random.default_rng(3).lognormal(sigma=1.5, size=(1, shape[1], *[1] * (len(shape) - 2)))


_BODIES = {
    "chain": (f"a = {_CONV}(x, w) r = Relu(a) y = {_CONV}(r, v)", {"w": dead(normal(WIDTH, 3, 3, 3), 0)}),
    "depthwise": (
        f"a = {_CONV}(x, w) r = Relu(a) d = Conv<group=16, kernel_shape=[3,3], pads=[1,1,1,1]>(r, k) y = {_CONV}(d, v)",
        {"w": dead(normal(WIDTH, 3, 3, 3), 0), "k": normal(WIDTH, 1, 3, 3)},
    ),
    "transposed": (
        f"a = ConvTranspose<kernel_shape=[3,3], pads=[1,1,1,1]>(x, w) r = Relu(a) y = {_CONV}(r, v)",
        {"w": dead(normal(3, WIDTH, 3, 3), 1)},
    ),
    "split": (
        f"a = {_CONV}(x, w) p, q = Split<axis=1>(a, sizes) m = Mul(p, q) y = {_CONV}(m, v)",
        {"w": dead(normal(2 * WIDTH, 3, 3, 3), 0, blocks=2), "sizes": np.array([WIDTH, WIDTH])},
    ),
    "shuffle": (
        f"""a = {_CONV}(x, w) r = Relu(a) s = Reshape(r, apart) t = Transpose<perm=[0,2,1,3,4]>(s)
            u = Reshape(t, back) y = {_CONV}(u, v)""",
        {
            "w": dead(normal(WIDTH, 3, 3, 3), 0, blocks=4),
            "apart": np.array([-1, 4, 4, 8, 8]),
            "back": np.array([-1, WIDTH, 8, 8]),
        },
    ),
    "readers": (f"a = {_CONV}(x, w) r = Relu(a) y = {_CONV}(r, v)", {"v": dead(normal(4, WIDTH, 3, 3), 1)}),
}


@pytest.mark.parametrize("data", [False, True], ids=["weights", "data"])
@pytest.mark.parametrize("kind", _BODIES)
def test_pruning_what_is_dead_changes_nothing(kind, data):
    body, weights = _BODIES[kind]
    weights = {"w": heavy_tailed(WIDTH, 3, 3, 3), "v": heavy_tailed(4, WIDTH, 3, 3), **weights}
    model = model_of(f"(float[N,3,8,8] x) => (float[N,4,8,8] y) {{ {body} }}", **weights)
    smaller, context = clone(model), about(model, data=data)
    assert Prune(ratio=0.5).run(smaller, context).changes
    feed = {"x": normal(2, 3, 8, 8).astype(np.float32)}
    before, after = (Session(network).run(feed)["y"] for network in (model, smaller))
    np.testing.assert_allclose(after, before, atol=1e-5 * np.abs(before).max())
