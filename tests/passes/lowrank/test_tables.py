"""Embedding tables: thin tables and a product, nearest in the norm of the rows that the data reads."""

import numpy as np
import pytest
from text_models import model_of

from graphpress.analysis.cost import model_cost
from graphpress.ir import clone, verify
from graphpress.manager.contract import Context
from graphpress.passes.lowrank._tables import approximate_heads
from graphpress.passes.lowrank.lowrank import LowRank
from graphpress.runtime import Session
from graphpress.targets import load_target

RANDOM = np.random.default_rng(0)
ROWS, WIDTH = 60, 16
EMBED = "(int64[B,S] ids) => (float[B,S,16] y) { y = Gather(table, ids) }"


def normal(*shape):
    return RANDOM.normal(size=shape).astype(np.float32)


def apply(lowrank, model, feeds=None, **context):
    """A copy with the pass run on it, and what it says."""
    changed = clone(model)
    outcome = lowrank.run(changed, Context(target=load_target("cpu"), original=model, calibration=feeds, **context))
    verify(changed)
    return changed, outcome


def outputs(model, ids):
    return Session(model).run({"ids": ids})["y"]


def skewed(rows, width):
    """A table whose rows vary along few directions most."""
    return (normal(rows, width) * 0.6 ** np.arange(width)).astype(np.float32) @ normal(width, width)


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        (EMBED, np.array([[0, 5, 59], [-1, -60, 7]])),
        ("(int32[B] ids) => (float[B,16] y) { y = Gather<axis=0>(table, ids) }", np.array([3, -2], np.int32)),
        ("(int64 ids) => (float[16] y) { y = Gather(table, ids) }", np.array(11)),
        ("(int64[B] ids) => (float[B,16] y) { e = Gather(table, ids)  y = Add(e, b) }", np.array([1, 2])),
        ("(int64[B] ids) => (float[B,16] y) { e = Gather(table, ids)  r = Relu(e)  y = Add(e, r) }", np.array([1, 2])),
    ],
)  # fmt: skip
def test_a_table_of_low_rank_is_decomposed_without_loss(text, ids):
    weights = {"table": normal(ROWS, 3) @ normal(3, WIDTH)} | ({"b": normal(WIDTH)} if "b)" in text else {})
    model = model_of(text, **weights)
    changed, outcome = apply(LowRank(rank=0.25, multiple=1), model)
    assert outcome.changes == 1, outcome.refusals
    assert f"{model_cost(changed).macs:,} multiply-accumulates are new" in outcome.notes[0]
    np.testing.assert_allclose(outputs(changed, ids), outputs(model, ids), atol=1e-4)
    assert model_cost(changed).parameters == 4 * (ROWS + WIDTH) + weights.get("b", np.zeros(0)).size
    assert [node.op_type for node in changed.graph][:2] == ["Gather", "MatMul"]
    again, second = apply(LowRank(rank=0.25, multiple=1), changed)
    assert second.changes == 0
    assert len(again.graph) == len(changed.graph)


def test_rows_are_weighted_by_how_often_the_data_reads_them():
    """The thin table is the weighted singular value decomposition, each row counted once more than it was read."""
    table = normal(ROWS, WIDTH)
    model = model_of(EMBED, table=table)
    ids = RANDOM.choice(6, size=(40, 25)).astype(np.int64)
    changed, _ = apply(LowRank(rank=0.5, multiple=1), model, [{"ids": ids}])
    counts = np.bincount(ids.reshape(-1), minlength=ROWS) + 1.0
    gram = (table.T * counts) @ table.astype(float)
    gram /= gram.trace() / WIDTH
    leading = np.linalg.eigh(gram)[1][:, -8:]
    every = np.arange(ROWS)[None]
    np.testing.assert_allclose(outputs(changed, every)[0], table @ leading @ leading.T, atol=1e-3)
    plain, _ = apply(LowRank(rank=0.5, multiple=1, norm="weights"), model, [{"ids": ids}])
    lost = [np.square(outputs(some, ids) - outputs(model, ids)).mean() for some in (changed, plain)]
    assert lost[0] < lost[1] / 2


def test_the_full_rank_of_a_table_computes_the_same():
    """At the rank that the table has, which is found."""
    model = model_of(EMBED, table=normal(ROWS, 8) @ normal(8, WIDTH))
    changed, outcome = apply(LowRank(energy=0.999, multiple=1), model)
    assert outcome.changes == 1
    ids = np.arange(ROWS)[None]
    np.testing.assert_allclose(outputs(changed, ids), outputs(model, ids), rtol=1e-5, atol=1e-5)


TAGGER = """(int64[B,S] ids) => (float[B,S,10] y) {
    e = Gather(table, ids)  h = MatMul(e, w)  r = Relu(h)  y = MatMul(r, v) }"""


@pytest.fixture(scope="module")
def tagger():
    return model_of(TAGGER, table=skewed(ROWS, WIDTH), w=normal(WIDTH, 32), v=normal(32, 10))


@pytest.fixture(scope="module")
def feeds():
    return [{"ids": RANDOM.integers(0, ROWS, size=(64, 9))}]


@pytest.mark.parametrize("fields", [{"params_kept": 0.6}, {"energy": 0.9}, {"rank": 0.4}, {"vbmf": True}])
def test_tables_are_among_the_layers_where_parameters_count(tagger, feeds, fields):
    decisions = {}
    changed, outcome = apply(LowRank(**fields, multiple=1), tagger, feeds, decisions=decisions)
    assert any(layer.name.startswith("Gather_e") for layer in outcome.decomposed)
    share = model_cost(changed).parameters / model_cost(tagger).parameters
    assert share < (0.6 if "params_kept" in fields else 1.0)
    replayed, _ = apply(LowRank(**fields, multiple=1), tagger, feeds, decisions=dict(decisions))
    np.testing.assert_array_equal(outputs(changed, feeds[0]["ids"]), outputs(replayed, feeds[0]["ids"]))


def test_a_table_stays_where_only_multiply_accumulates_count(tagger, feeds):
    changed, outcome = apply(LowRank(macs_kept=0.5, multiple=1), tagger, feeds)
    assert changed.graph[0].inputs[0].shape == (ROWS, WIDTH)
    assert any("to be saved" in refusal.why for refusal in outcome.refusals)


def test_a_table_that_stays_whole_is_read_as_before():
    model = model_of(EMBED, table=normal(4, WIDTH))
    changed, outcome = apply(LowRank(rank=0.5), model)
    assert outcome.changes == 0
    assert [node.op_type for node in changed.graph] == ["Gather"]
    assert changed.graph.outputs[0].name == "y"


def test_readers_of_one_table_share_the_thin_one():
    text = (
        """(int64[B] a, int64[B] b) => (float[B,16] y) { p = Gather(table, a)  q = Gather(table, b)  y = Mul(p, q) }"""
    )
    model = model_of(text, table=normal(ROWS, 3) @ normal(3, WIDTH))
    feed = {"a": np.array([1, 2, -3]), "b": np.array([4, 0, 59])}
    for feeds in (None, [feed]):
        changed, outcome = apply(LowRank(rank=0.25, multiple=1), model, feeds)
        assert outcome.changes == 1, outcome.refusals
        assert model_cost(changed).parameters == 4 * (ROWS + WIDTH)
        assert len(changed.graph.initializers) == 2
        np.testing.assert_allclose(Session(changed).run(feed)["y"], Session(model).run(feed)["y"], rtol=1e-4, atol=1e-3)


def test_the_mean_of_rows_counts_where_no_bias_takes_it():
    """As readers of one table have biases of their own, which stay."""
    text = """(int64[B] a, int64[B] b) => (float[B,16] y) {
        p = Gather(table, a)  q = Gather(table, b)  r = Add(p, s)  t = Add(q, s)  y = Mul(r, t) }"""
    model = model_of(text, table=normal(ROWS, 2) @ normal(2, WIDTH) + 10 * normal(1, WIDTH), s=normal(WIDTH))
    feed = {"a": np.array([1, 2, -3]), "b": np.array([4, 0, 59])}
    for feeds in (None, [feed]):
        changed, _ = apply(LowRank(rank=0.2, multiple=1), model, feeds)
        np.testing.assert_allclose(Session(changed).run(feed)["y"], Session(model).run(feed)["y"], rtol=1e-3, atol=1e-2)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("(int64[B] ids) => (float[B,16] y) { a = Gather(table, ids)  b = Mul(table, table)  y = Gather(b, ids) }",
         "another reader"),
        ("(int64[B] ids) => (float[B,16] y, float[60,16] table) { y = Gather(table, ids) }", "result of the model"),
    ],
)  # fmt: skip
def test_tables_that_others_see_stay(text, why):
    model = model_of(text, table=normal(ROWS, WIDTH))
    _, outcome = apply(LowRank(rank=0.25), model)
    assert outcome.changes == 0
    assert any(why in refusal.why for refusal in outcome.refusals)


def test_an_expression_chooses_tables_by_what_reads_them(tagger, feeds):
    _, outcome = apply(LowRank(rank=0.25, multiple=1, layers="Gather"), tagger, feeds)
    assert outcome.changes == 1


def test_half_precision_tables_keep_their_type():
    text = EMBED.replace("float[", "float16[")
    model = model_of(text, table=(normal(ROWS, 3) @ normal(3, WIDTH) * 0.1).astype(np.float16))
    changed, outcome = apply(LowRank(rank=0.25, multiple=1), model)
    assert outcome.changes == 1
    ids = np.arange(ROWS)[None]
    np.testing.assert_allclose(outputs(changed, ids).astype(float), outputs(model, ids).astype(float), atol=5e-3)


TIED = """(int64[B,S] ids) => (float[B,S,60] y) {
    e = Gather(table, ids)  h = MatMul(e, w)  r = Relu(h)  t = Transpose<perm=[1,0]>(table)  y = MatMul(r, t) }"""


def test_a_head_tied_to_its_table_shares_the_thin_one():
    model = model_of(TIED, table=normal(ROWS, 3) @ normal(3, WIDTH), w=normal(WIDTH, WIDTH))
    ids = np.array([[0, 5, 59], [-1, -60, 7]])
    for feeds in (None, [{"ids": ids}]):
        changed, outcome = apply(LowRank(rank=0.25, multiple=1, layers="Gather|MatMul_y"), model, feeds)
        assert outcome.changes == 1, outcome.refusals
        np.testing.assert_allclose(outputs(changed, ids), outputs(model, ids), rtol=1e-4, atol=1e-3)
        assert model_cost(changed).parameters == 4 * (ROWS + 2 * WIDTH) + WIDTH**2
        assert model_cost(changed).macs < model_cost(model).macs
        assert apply(LowRank(rank=0.25, multiple=1, layers="Gather|MatMul_y"), changed)[1].changes == 0


def test_a_table_stays_where_its_head_is_left_alone():
    model = model_of(TIED, table=normal(ROWS, 3) @ normal(3, WIDTH), w=normal(WIDTH, WIDTH))
    assert apply(LowRank(rank=0.25, multiple=1, layers="Gather"), model)[1].changes == 0


def test_a_goal_counts_what_a_tied_head_saves():
    model = model_of(TIED, table=normal(ROWS, WIDTH), w=normal(WIDTH, WIDTH))
    changed, _ = apply(LowRank(params_kept=0.6, multiple=1), model, [{"ids": RANDOM.integers(0, ROWS, size=(32, 9))}])
    assert model_cost(changed).parameters <= 0.6 * model_cost(model).parameters
    table = next(node for node in changed.graph if node.op_type == "Gather").inputs[0]
    assert table.shape[1] < WIDTH
    assert [use.node.op_type for use in table.uses()] == ["Gather", "Transpose"]


def test_heads_compute_in_a_copy_what_a_factored_table_gives_them():
    """So that the damage that is measured is that of all readers."""
    table, weight = normal(ROWS, WIDTH), normal(WIDTH, WIDTH)
    model = model_of(TIED, table=table, w=weight)
    copy, matrix, ids = clone(model), normal(WIDTH, WIDTH), np.arange(4)[None]
    approximate_heads(copy, model.graph[0], matrix.astype(float))
    hidden = np.maximum(table[ids] @ weight, 0)
    np.testing.assert_allclose(outputs(copy, ids), hidden @ (table @ matrix).T, rtol=1e-3, atol=1e-2)
