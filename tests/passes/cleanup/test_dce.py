"""dce: what no output depends on goes, in every graph."""

from __future__ import annotations

import numpy as np

from graphpress.passes.cleanup.dce import DeadCodeElimination


def test_a_dead_branch_goes_with_its_initializers(build, clean):
    model = build(
        "(float[2] x) => (float[2] y) { a = Mul(x, w) b = Neg(a) y = Relu(x) }",
        w=np.ones(2, np.float32),
        unread=np.ones(2, np.float32),
    )
    done = clean(DeadCodeElimination(), model)
    assert done.ops == ["Relu"]
    assert not done.model.graph.initializers


def test_unread_inputs_and_all_outputs_stay(build, clean):
    done = clean(
        DeadCodeElimination(), build("(float[2] x, float[2] u) => (float[2] y, float[2] z) { y = Neg(x) z = Abs(x) }")
    )
    assert [value.name for value in done.model.graph.inputs] == ["x", "u"]
    assert done.outcome.changes == 0


def test_what_only_a_dead_subgraph_reads_goes(build, clean):
    model = build(
        "(float[2] x, bool c) => (float[2] y) { k = Neg(x) "
        "d = If(c)<then_branch = t () => (float[2] a) { a = Mul(k, w) }, "
        "else_branch = e () => (float[2] b) { b = Abs(k) }> "
        "y = Relu(x) }",
        w=np.ones(2, np.float32),
    )
    done = clean(DeadCodeElimination(), model)
    assert done.ops == ["Relu"]
    assert not done.model.graph.initializers


def test_dead_nodes_inside_a_live_subgraph_go(build, clean):
    model = build(
        "(float[2] x, bool c) => (float[2] y) { k = Exp(x) "
        "y = If(c)<then_branch = t () => (float[2] a) { u = Neg(k) v = Abs(u) a = Relu(x) }, "
        "else_branch = e () => (float[2] b) { b = Abs(x) }> }"
    )
    done = clean(DeadCodeElimination(), model)
    assert done.ops == ["If"], "what only dead nodes inside read is dead as well"
    assert [[node.op_type for node in graph] for graph in done.model.graph.subgraphs()] == [["Relu"], ["Abs"]]


def test_unread_optional_results_are_trimmed(build, clean):
    model = build(
        "(float[1,1,4,4] x, float[3,1,2] s, float[1,12,2] w, float[1,12,3] r) => (float[1,1,2,2] y, float[1,1,3] h) "
        "{ y, i = MaxPool<kernel_shape=[2,2], strides=[2,2]>(x) q, h, c = LSTM<hidden_size=3>(s, w, r) }"
    )
    done = clean(DeadCodeElimination(), model)
    pool, lstm = done.model.graph
    assert len(pool.outputs) == 1
    assert [output.name for output in lstm.outputs] == ["", "h"]


def test_pieces_of_a_split_are_not_optional(build, clean):
    model = build("(float[2,4] x) => (float[2,2] y) { y, z = Split<axis=1>(x) }", opset=13)
    assert clean(DeadCodeElimination(), model).outcome.changes == 0


def test_a_training_batch_norm_of_an_old_opset_keeps_its_results(build, apply):
    model = build(
        "(float[2,3] x, float[3] a) => (float[2,3] y) { y, m, v, s, t = BatchNormalization(x, a, a, a, a) }", opset=9
    )
    assert apply(DeadCodeElimination(), model).changes == 0


def test_uncalled_functions_and_unused_imports_go(build, clean):
    model = build(
        "(float[2] x) => (float[2] y) { y = Relu(x) }",
        functions='<domain: "local", opset_import: ["": 17]> f (x) => (y) { y = Neg(x) }',
    )
    done = clean(DeadCodeElimination(), model)
    assert not done.model.functions
    assert list(done.model.opset_imports) == [""]


def test_called_functions_stay_and_are_swept(build, clean):
    model = build(
        "(float[2] x) => (float[2] y) { y = local.f(x) }",
        functions='<domain: "local", opset_import: ["": 17, "local": 1]> f (x) => (y) { u = Abs(x) y = local.g(x) }\n'
        '<domain: "local", opset_import: ["": 17]> g (x) => (y) { y = Neg(x) }',
    )
    done = clean(DeadCodeElimination(), model)
    assert {name: [node.op_type for node in function] for (_, name, _), function in done.model.functions.items()} == {
        "f": ["g"],
        "g": ["Neg"],
    }
