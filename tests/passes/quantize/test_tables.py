"""Tables in integers: embeddings, and heads that are tied to them."""

import re

import numpy as np
import pytest
from onnx import TensorProto

from graphpress.ir import serialize, to_proto
from graphpress.ir.encoding import compute_request, read_encoding
from graphpress.passes.quantize.quantize import Quantize
from graphpress.passes.quantize.quantize_weights import QuantizeWeights
from graphpress.runtime import Session
from graphpress.targets import load_target

ROWS, WIDTH = 512, 32
TIED = """(int64[B,S] ids) => (float[B,S,512] y)
{ e = Gather (table, ids) h = MatMul (e, w) t = Transpose <perm=[1,0]> (table) y = MatMul (h, t) }"""
GEMM = """(int64[B] ids) => (float[B,512] y)
{ e = Gather (table, ids) h = MatMul (e, w) y = Gemm <transB=1> (h, table) }"""
BERT = """(int64[B,S] ids) => (float[B,S,32] y)
{ e = Gather (table, ids) p = Gather (places, ids) s = Add (e, p) y = MatMul (s, w) }"""


@pytest.fixture
def table():
    """Rows of very different size, as words that are rare and often have."""
    random = np.random.default_rng(0)
    return (random.normal(size=(ROWS, WIDTH)) * np.geomspace(0.01, 1, ROWS)[:, None]).astype(np.float32)


@pytest.fixture
def feeds():
    random = np.random.default_rng(1)
    return [{"ids": random.integers(0, ROWS, (2, 8))} for _ in range(4)]


@pytest.fixture
def tied(build, quantize, weights, table, feeds):
    return quantize(build(TIED, table=table, w=weights.of(WIDTH, WIDTH)), feeds)


def stored(model):
    """Types of constants with more than one axis that are as large as the table."""
    constants = to_proto(model).graph.initializer
    return sorted(TensorProto.DataType.Name(one.data_type) for one in constants if np.prod(one.dims) >= ROWS * WIDTH)


def test_a_tied_table_is_one_constant_of_integers(tied, tmp_path):
    assert {node.op_type for node in tied.model.graph if compute_request(node)} == {"Gather", "MatMul"}
    assert not tied.refused
    assert stored(tied.legal()) == ["INT8"]
    kernels = tied.kernels(tmp_path)
    assert "MatMul" not in kernels
    assert "DequantizeLinear" not in kernels
    assert min(tied.sqnr().values()) > 30


def test_the_head_reads_a_scale_an_output_and_the_table_a_scale_a_row(tied):
    gather, turn = tied.node("e"), tied.node("t")
    assert read_encoding(gather, 0) == read_encoding(turn, 0)
    assert read_encoding(gather, 0).axis == 0
    assert len(read_encoding(gather, 0).scale) == ROWS


def test_a_head_that_reads_the_table_as_it_stands_shares_it_too(build, quantize, weights, table):
    feeds = [{"ids": np.arange(start, start + 8)} for start in (0, 100, 500)]
    done = quantize(build(GEMM, table=table, w=weights.of(WIDTH, WIDTH)), feeds)
    assert stored(done.legal()) == ["INT8"]
    assert done.integer == {"e", "h", "y"}


def test_weights_alone(build, quantize, weights, table, feeds, tmp_path):
    model = build(TIED, table=table, w=weights.of(WIDTH, WIDTH))
    done = quantize(model, feeds, one=QuantizeWeights(dtype="int8"))
    assert stored(done.legal()) == ["INT8"]
    assert not done.refused
    assert min(done.sqnr().values()) > 35
    assert "DequantizeLinear" not in done.kernels(tmp_path)


def test_four_bits_leave_a_turned_table_float_and_say_so(build, quantize, weights, table, feeds):
    model = build(TIED, opset=21, table=table, w=weights.of(WIDTH, WIDTH))
    done = quantize(model, feeds, one=QuantizeWeights())
    assert "turned at run time: no kernel reads that in int4" in done.refused[done.node("y").name]


@pytest.mark.parametrize("per_channel", [True, False])
def test_embeddings_of_their_own(build, quantize, weights, table, feeds, per_channel):
    text_model = build(BERT, table=table, places=table[:, ::-1].copy(), w=weights.of(WIDTH, WIDTH))
    done = quantize(text_model, feeds, per_channel=per_channel)
    assert stored(done.legal()) == ["INT8", "INT8"]
    assert len(serialize(done.legal())) < 0.4 * len(serialize(text_model))
    assert min(done.sqnr().values()) > (30 if per_channel else 20)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda table: table[:100], "its table of 3200 numbers is small"),
        (lambda table: np.where(table == table.max(), np.inf, table), "its table has infinite or undefined numbers"),
    ],
)
def test_a_table_that_stays_float_is_named(build, quantize, weights, table, change, why):
    text = "(int64[B] ids) => (float[B,32] y) { e = Gather (table, ids) r = Tanh (e) y = MatMul (r, w) }"
    model = build(text, table=change(table).astype(np.float32), w=weights.of(WIDTH, WIDTH))
    done = quantize(model, [{"ids": np.arange(4)}])
    assert why in done.refused[done.node("e").name]


def test_an_excluded_table_stays_float(build, quantize, weights, table, feeds):
    model = build(BERT, table=table, places=table, w=weights.of(WIDTH, WIDTH))
    done = quantize(model, feeds, exclude=re.compile("Gather_e"))
    assert done.refused["Gather_e"] == "excluded by the user"
    assert "e" not in done.integer


def test_a_table_that_others_read_in_float_is_not_stored_twice(build, quantize, weights, table, feeds):
    text = TIED.replace("y = MatMul", "n = Erf (table) y = MatMul").replace("512] y)", "512] y, float[512,32] n)")
    done = quantize(build(text, table=table, w=weights.of(WIDTH, WIDTH)), feeds)
    assert "another arrangement of table" in done.refused[done.node("y").name]


def test_a_target_without_tables_in_integers_keeps_both_float(build, quantize, weights, table, feeds):
    target = load_target("jetson{jetpack=6.0}")
    done = quantize(build(TIED, table=table, w=weights.of(WIDTH, WIDTH)), feeds, target=target)
    assert done.integer == {"h"}
    assert {"Gather_e", "MatMul_y"} <= done.refused.keys()


def test_numbers_that_half_precision_has_no_scale_for(build, quantize, weights, table, feeds, jetson):
    model = build(BERT, table=table * np.float32(1e-6), places=table, w=weights.of(WIDTH, WIDTH))
    done = quantize(model, feeds, target=jetson, one=Quantize())
    assert "holds no scale" in done.refused["Gather_e"]


def test_a_turned_constant_on_the_left_is_data(build, quantize, table):
    text = "(float[1] x) => (float[32,32] y) { t = Transpose <perm=[1,0]> (table) y = MatMul (t, w) }"
    feed = {"x": np.ones(1, np.float32)}
    done = quantize(build(text, table=table, w=np.ones((ROWS, 32), np.float32)), [feed])
    assert Session(done.legal()).run(feed)["y"].shape == (32, 32)
