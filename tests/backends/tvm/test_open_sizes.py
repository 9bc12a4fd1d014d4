"""Sequences of any length up to a largest, by one library: beside ONNX Runtime, or refused by name."""

from __future__ import annotations

import shutil
from contextlib import nullcontext

import numpy as np
import pytest

pytest.importorskip("tvm", reason="needs graphpress[tvm]")

from kernel_checks.graphs import graph

from graphpress.analysis.shapes import infer_shapes
from graphpress.backend import CompileOptions, ShapeRange
from graphpress.backends.tvm.artifact import write_library
from graphpress.backends.tvm.backend import TvmBackend
from graphpress.backends.tvm.lowering.lower import lower
from graphpress.backends.tvm.lowering.open_axes import OpenSizeError
from graphpress.backends.tvm.specialization import specialize
from graphpress.errors import UsageError
from graphpress.ir import Shape, clone
from graphpress.ir.qdq import import_qdq
from graphpress.manager.contract import Context
from graphpress.manager.recipe import from_text
from graphpress.models import build
from graphpress.runtime import CompiledModel, Session
from graphpress.targets import load_target

pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")

LARGEST = 24
RANGES = {"input_ids": ShapeRange((1, 1), (1, 8), (1, LARGEST))}
LENGTHS = (1, 2, 7, LARGEST // 2, LARGEST - 1, LARGEST)
RNG = np.random.default_rng(0)
WEIGHTS = {
    "w": RNG.standard_normal((6, 6)).astype(np.float32),
    "table": RNG.standard_normal((10, 6)).astype(np.float32),
}


def transformer(family: str):
    """A model with open batch and sequence, as the passes leave it."""
    model = build(family, layers=1)
    infer_shapes(model)
    context = Context(target=load_target("cpu"), original=clone(model))
    for change in from_text("cleanup,cleanup,fuse").passes:
        change.run(model, context)
    infer_shapes(model)
    return model


def lowered(model, isa, ranges=None, threads=1):
    special = specialize(model, ranges)
    return lower(special.model, isa, threads, batch_axes=special.batch_axes, sizes=special.sizes)


def compiled(model, isa, folder, ranges=None, threads=1) -> CompiledModel:
    write_library(lowered(model, isa, ranges, threads), isa, folder)
    return CompiledModel(folder, threads)


def tokens(model: CompiledModel, batch: int, length: int) -> dict[str, np.ndarray]:
    """Numbers of tokens and kinds, of which the last third is hidden where the model has a mask."""
    feed = {tensor.name: RNG.integers(0, 2, (batch, length)) for tensor in model.inputs}
    if "attention_mask" in feed:
        feed["attention_mask"][:] = np.arange(length) < length - length // 3
    return feed


def assert_alike(results, expected, tolerance=1e-5):
    for name, wanted in expected.items():
        assert results[name].shape == wanted.shape
        np.testing.assert_allclose(results[name], wanted, rtol=0, atol=tolerance * np.abs(wanted).max(), err_msg=name)


@pytest.mark.parametrize("family", ["bert", "gpt", "llama"])
def test_transformers_of_any_length(family, newest, tmp_path):
    model = transformer(family)
    session = Session(model)
    with compiled(model, newest, tmp_path, RANGES, threads=2) as library:
        for batch, length in ((batch, length) for batch in (1, 3) for length in (*LENGTHS, 2)):
            feed = tokens(library, batch, length)
            assert_alike(library.run(feed), session.run(feed))


def test_what_is_too_long_or_of_two_lengths_is_one_error(newest, tmp_path):
    text = "(float[N, S, 6] x, float[N, S, 6] y) => (float[N, S, 6] z) { z = Add(x, y) }"
    with compiled(graph(text), newest, tmp_path, {"x": ShapeRange((1, 2, 6), (1, 2, 6), (1, 5, 6))}) as library:
        x = np.ones((1, 6, 6), np.float32)
        with pytest.raises(UsageError, match=r"S is 6; the model takes 2 to 5"):
            library.run({"x": x, "y": x})
        with pytest.raises(UsageError, match=r"\[1, 5, 6\], not \[batch, S, 6\]"):
            library.run({"x": x[:, :4], "y": x[:, :5]})
        np.testing.assert_array_equal(library.run({"x": x[:, :3], "y": x[:, :3]})["z"], 2 * x[:, :3])


def test_tables_of_positions_end_where_the_longest_sequence_does():
    special = specialize(transformer("bert"))
    assert [(size.name, size.size.maximum) for size in special.sizes] == [("sequence", 64)]


GROWING = {
    "products of open matrices": "(float[N, S, 6] x) => (float[N, S, 6] y) "
    "{ t = Transpose<perm = [0, 2, 1]>(x) s = MatMul(x, t) p = Softmax(s) y = MatMul(p, x) }",
    "an axis of its own, and one that is joined": "(float[N, S, 6] x) => (float[N, U, 3] y) "
    "{ a = MatMul(x, w) two = Constant<value_ints = [0, -1, 3]>() y = Reshape(a, two) }",
    "channels that are open": "(float[N, 6, S] x) => (float[N, S, 6] y, float[N, 6, S] z) "
    "{ z = LogSoftmax(x) t = Transpose<perm = [0, 2, 1]>(x) y = LayerNormalization(t, six) }",
    "two lengths": "(float[N, S, 6] x, float[N, T, 6] y) => (float[N, S, 6] z) "
    "{ t = Transpose<perm = [0, 2, 1]>(y) s = MatMul(x, t) p = Softmax(s) z = MatMul(p, y) }",
    "the first place": "(float[N, S, 6] x) => (float[N, 6] y) "
    "{ zero = Constant<value_int = 0>() y = Gather<axis = 1>(x, zero) }",
    "the last place, taken in two ways": "(float[N, S, 6] x) => (float[N, 6] y, float[N, 1, 6] z) "
    "{ last = Constant<value_int = -1>() y = Gather<axis = 1>(x, last) a = Constant<value_ints = [-1]>() "
    "b = Constant<value_ints = [9223372036854775807]>() one = Constant<value_ints = [1]>() z = Slice(x, a, b, one) }",
    "a past that grows": "(float[N, S, 6] x, float[N, T, 6] past) => (float[N, U, 6] present, float[N, S, 6] y) "
    "{ present = Concat<axis = 1>(past, x) t = Transpose<perm = [0, 2, 1]>(present) s = MatMul(x, t) "
    "p = Softmax(s) y = MatMul(p, present) }",
    "a sum, a mean and a maximum of all": "(float[N, S, 6] x) => (float[N, 6] y, float[N, 1, 6] z, float[N, 6, 1] m) "
    "{ one = Constant<value_ints = [1]>() y = ReduceSum<keepdims = 0>(x, one) r = Tanh(x) z = ReduceMean(r, one) "
    "t = Transpose<perm = [0, 2, 1]>(x) last = Constant<value_ints = [2]>() m = ReduceMax(t, last) }",
    "the mean of what a mask lets pass": "(float[N, S, 6] x, int64[N, S] m) => (float[N, 6] y) "
    "{ f = Cast<to = 1>(m) last = Constant<value_ints = [-1]>() u = Unsqueeze(f, last) p = Mul(x, u) "
    "one = Constant<value_ints = [1]>() s = ReduceSum<keepdims = 0>(p, one) c = ReduceSum<keepdims = 0>(u, one) "
    "a = Abs(c) b = Exp(a) y = Div(s, b) }",
    "rows of a table": "(int64[N, S] i) => (float[N, S, 6] y) { g = Gather(table, i) y = Tanh(g) }",
}


@pytest.mark.parametrize("case", GROWING)
def test_graphs_of_any_length(case, newest, tmp_path):
    weights = {**WEIGHTS, "six": np.arange(6, dtype=np.float32)}
    model = graph(GROWING[case], **{name: array for name, array in weights.items() if name in GROWING[case]})
    session = Session(model)
    with compiled(model, newest, tmp_path) as library:
        for first, second in ((1, 2), (3, 19), (64, 1), (512, 511)):
            sizes = {"N": 2, "S": first, "T": second}
            feed = {}
            for value in model.graph.inputs:
                shape = [dim if isinstance(dim, int) else sizes[dim.value] for dim in value.shape]
                feed[value.name] = RNG.standard_normal(shape).astype(value.dtype.numpy())
            assert_alike(library.run(feed), session.run(feed))


CODED = """(float[N, S, 8] x) => (float[N, S, T] y) {
    q = QuantizeLinear(x, scale, zero) d = DequantizeLinear(q, scale, zero)
    t = Transpose<perm = [0, 2, 1]>(d) s = MatMul(d, t)
    r = QuantizeLinear(s, wide, zero) y = DequantizeLinear(r, wide, zero)
}"""


def test_activations_in_codes_are_multiplied_at_any_length(newest, tmp_path):
    halves = {"scale": np.array(1 / 64, np.float32), "wide": np.array(1 / 8, np.float32)}  # sums in floats are exact
    numbers = {**halves, "zero": np.array(120, np.uint8)}
    model = graph(CODED, **numbers)
    annotated = clone(model)
    import_qdq(annotated)
    session = Session(model)
    with compiled(annotated, newest, tmp_path, {"x": ShapeRange(*[(1, n, 8) for n in (1, 4, 30)])}) as library:
        for length in (1, 7, 30):
            feed = {"x": RNG.standard_normal((2, length, 8)).astype(np.float32)}
            assert_alike(library.run(feed), session.run(feed))


CACHED = """(float[N, S, 32] x, float[N, 2, P, 8] k, float[N, 2, P, 8] v)
    => (float[N, S, 32] y, float[N, 2, T, 8] keys, float[N, 2, T, 8] values) {
    q = MatMul(x, wq) newk = MatMul(x, wk) newv = MatMul(x, wv)
    a, keys, values = Attention<q_num_heads = 4, kv_num_heads = 2, is_causal = 1>(q, newk, newv, , k, v)
    y = MatMul(a, wq)
}"""


def test_attention_with_a_cache_of_any_length_from_nothing_on(newest, tmp_path):
    shapes = {"wq": (32, 32), "wk": (32, 16), "wv": (32, 16)}
    weights = {name: RNG.standard_normal(shape).astype(np.float32) / 4 for name, shape in shapes.items()}
    model = graph(CACHED, opset=23, **weights)
    ranges = {"x": ShapeRange((1, 1, 32), (1, 1, 32), (1, 9, 32)), "k": ShapeRange(*[(1, 2, n, 8) for n in (1, 8, 20)])}
    session = Session(model)
    with compiled(model, newest, tmp_path, ranges, threads=2) as library:
        for batch, new, past in ((2, 9, 0), (1, 1, 1), (2, 1, 9), (1, 3, 19), (2, 9, 20)):
            caches = {name: RNG.standard_normal((batch, 2, past, 8)).astype(np.float32) for name in "kv"}
            feed = {"x": RNG.standard_normal((batch, new, 32)).astype(np.float32), **caches}
            assert_alike(library.run(feed), session.run(feed))


def test_one_query_reads_a_cache_of_any_length(newest, tmp_path):
    text = CACHED.replace("N, S, 32", "N, 1, 128").replace(", 8]", ", 32]")
    shapes = {"wq": (128, 128), "wk": (128, 64), "wv": (128, 64)}
    model = graph(text, opset=23, **{n: RNG.standard_normal(s).astype(np.float32) / 8 for n, s in shapes.items()})
    ranges = {
        "x": ShapeRange(*[(n, 1, 128) for n in (1, 1, 2)]),
        "k": ShapeRange(*[(1, 2, n, 32) for n in (1, 8, 200)]),
    }
    session = Session(model)
    with compiled(model, newest, tmp_path, ranges, threads=2) as library:
        assert any("DecodingAttention" in str(step) for step in library.description.steps)
        for batch, past in ((1, 0), (2, 127), (1, 200), (2, 6)):
            caches = {name: RNG.standard_normal((batch, 2, past, 32)).astype(np.float32) for name in "kv"}
            feed = {"x": RNG.standard_normal((batch, 1, 128)).astype(np.float32), **caches}
            assert_alike(library.run(feed), session.run(feed))


BEHIND_A_CACHE = """(float[N, S, 6] x, float[N, P, 6] past) => (float[N, S, 6] y, float[N, T, 6] present) {
    ps = Shape<start = 1, end = 2>(past) ss = Shape<start = 1, end = 2>(x) ts = Add(ps, ss)
    axis = Constant<value_ints = [0]>() one = Constant<value_int = 1>() zero = Constant<value_int = 0>()
    begin = Squeeze(ps, axis) end = Squeeze(ts, axis)
    places = Range(begin, end, one) all = Range(zero, end, one)
    behind = Constant<value_ints = [1]>() column = Unsqueeze(places, behind) row = Unsqueeze(all, axis)
    later = Greater(row, column) mask = Where(later, lowest, nothing)
    numbers = Cast<to = 1>(column) angles = Mul(numbers, frequencies) waves = Cos(angles)
    turned = Mul(x, waves)
    present = Concat<axis = 1>(past, turned)
    t = Transpose<perm = [0, 2, 1]>(present) s = MatMul(turned, t) hidden = Add(s, mask)
    p = Softmax(hidden) y = MatMul(p, present)
}"""


def test_masks_and_positions_that_begin_behind_a_cache(newest, tmp_path):
    """Computed of the length of the past, as exporters write them."""
    weights = {"frequencies": np.linspace(0.1, 1, 6)[None], "lowest": np.array(-1e9), "nothing": np.array(0)}
    model = graph(BEHIND_A_CACHE, **{name: array.astype(np.float32) for name, array in weights.items()})
    ranges = {"x": ShapeRange(*[(1, n, 6) for n in (1, 1, 9)]), "past": ShapeRange(*[(1, n, 6) for n in (1, 8, 20)])}
    session = Session(model)
    with compiled(model, newest, tmp_path, ranges) as library:
        for batch, new, past in ((2, 9, 0), (1, 1, 1), (2, 1, 9), (1, 3, 19), (2, 9, 20)):
            shapes = {"x": (batch, new, 6), "past": (batch, past, 6)}
            feed = {name: RNG.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
            assert_alike(library.run(feed), session.run(feed))


def test_the_backend_says_how_long_sequences_may_be(tmp_path):
    model = graph(GROWING["products of open matrices"])
    ranges = {"x": ShapeRange((1, 2, 6), (1, 5, 6), (1, 9, 6))}
    options, backend = CompileOptions(load_target("cpu"), ranges=ranges), TvmBackend()
    artifact = backend.compile(backend.prepare(model, options.target), options, tmp_path)
    assert any("S is 2 to 9" in note and "--input-range" in note for note in artifact.findings().notes)
    feed = {"x": RNG.standard_normal((3, 7, 6)).astype(np.float32)}
    assert_alike(artifact.run(feed), Session(model).run(feed))
    assert len(artifact.kernel_times(feed)) == len(artifact.program.steps)


def test_the_backend_names_the_option_that_fixes_what_cannot_stay_open(tmp_path):
    model = graph("(int64[N, S] x) => (int64[N, S] y) { one = Constant<value_int = 1>() y = CumSum(x, one) }")
    options, backend = CompileOptions(load_target("cpu")), TvmBackend()
    with pytest.raises(OpenSizeError, match="CumSum") as raised:
        backend.compile(backend.prepare(model, options.target), options, tmp_path)
    assert "--input-shape x=1x" in raised.value.fix
    assert not list(tmp_path.iterdir())


CONDITIONAL = """(float[N, S, 6] x, float[N, P, 6] past) => (float[N, T, 6] y) {
    all = Concat<axis = 1>(past, x) p = Shape<start = 1, end = 2>(past)
    none = Constant<value_ints = [LIMIT]>() c = Greater(p, none) f = Where(c, two, three) y = Mul(all, f)
}"""


@pytest.mark.parametrize(("limit", "smallest"), [(-1, 0), (0, 1)])
def test_a_cache_is_not_empty_where_the_model_asks_whether_it_is(limit, smallest):
    numbers = {"two": np.array(2, np.float32), "three": np.array(3, np.float32)}
    model = graph(CONDITIONAL.replace("LIMIT", str(limit)), **numbers)
    minima = {size.name: size.minimum for size in specialize(model).sizes}
    assert minima["P"] == smallest


def test_what_differs_at_sizes_that_nobody_asks_for_stays_open():
    text = "{ s = Shape<start = 1, end = 2>(x) m = Min(s, two) f = Cast<to = 1>(m) y = Mul(x, f) }"
    model = graph(f"(float[N, S, 6] x) => (float[N, S, 6] y) {text}", two=np.array([2]))
    (size,) = specialize(model, {"x": ShapeRange(*[(1, n, 6) for n in (2, 5, 9)])}).sizes
    assert size.minimum == 2


SUMMED = {
    "another sum": ({"mask": (3, 9, 30)}, r"--input-range mask: P \+ S is at min 3, but P is 1, S is 1.*write 2 for"),
    "a part that nobody says": ({"past": None}, r"--input-range mask: P \+ S is at min 2.* what P is"),
    "the sum of its parts": ({}, ""),
}


@pytest.mark.parametrize("case", SUMMED)
def test_the_range_of_a_sum_is_that_of_its_parts(case):
    changed, message = SUMMED[case]
    model = graph("(float[N, S] x, float[N, P] past, float[N, T] mask) => (float[N, T] y) "
                  "{ all = Concat<axis = 1>(past, x) y = Mul(all, mask) }")  # fmt: skip
    model.graph.inputs[2].shape = Shape(["N", "P + S"])
    said = {"x": (1, 5, 9), "past": (1, 8, 20), "mask": (2, 13, 29)} | changed
    ranges = {name: ShapeRange(*[(1, size) for size in sizes]) for name, sizes in said.items() if sizes}
    with pytest.raises(UsageError, match=f"(?s){message}") if message else nullcontext():
        assert {size.name: size.size.maximum for size in specialize(model, ranges).sizes} == {"S": 9, "P": 20}


REFUSED = {
    "the second place": "{ one = Constant<value_int = 1>() y = Gather<axis = 1>(x, one) }",
    "a part of unknown length": "{ a = Constant<value_ints = [1]>() b = Constant<value_ints = [9999]>() "
    "y = Slice(x, a, b, a) }",
    "a running sum": "{ a = Constant<value_int = 1>() y = CumSum(x, a) }",
    "an average of the length": "{ t = Transpose<perm = [0, 2, 1]>(x) y = LayerNormalization(t, six) }",
    "what moves with it": "{ s = Shape<start = 1, end = 2>(x) f = Cast<to = 1>(s) y = Mul(x, f) }",
    "what repeats": "{ s = Shape<start = 1, end = 2>(x) m = Mod(s, two) f = Cast<to = 1>(m) y = Mul(x, f) }",
    "what the shortest has less of": "{ s = Shape<start = 1, end = 2>(x) m = Min(s, two) f = Cast<to = 1>(m) "
    "y = Mul(x, f) }",
    "a window": "{ y = Conv(x, kernel) }",
    "two that are joined": "{ t = Transpose<perm = [0, 2, 1]>(x) a = Constant<value_ints = [0, -1]>() "
    "y = Reshape(t, a) }",
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_stay_open_is_refused_by_name(case, newest):
    weights = {"six": np.ones(1, np.float32), "kernel": np.ones((6, 6, 3), np.float32), "two": np.array([2])}
    text = f"(float[N, S, 6] x) => (float[N, U, V] y) {REFUSED[case]}"
    model = graph(text, **{name: array for name, array in weights.items() if name in text})
    with pytest.raises(OpenSizeError, match=r"(node|value) \w+") as raised:
        lowered(model, newest)
    assert raised.value.fix
