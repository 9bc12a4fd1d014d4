"""The pattern engine: where it looks, when it looks again, what it reports."""

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import pytest

from graphpress.ir import Match, Refusal, apply_rules, has_one_use, producer, verify
from graphpress.models import build as build_family


@dataclass
class DropIdentity:
    """Counts its looks; refuses at graph outputs."""

    root_ops: ClassVar[tuple[str, ...]] = ("Identity",)
    looks: list[str] = field(default_factory=list)

    def match(self, node):
        self.looks.append(node.name)
        if not node.inputs[0].producer():
            return None
        if node.outputs[0].is_graph_output():
            return Refusal.at(node, "is an output", "rename it")
        return Match(node=node)

    def rewrite(self, match, edit):
        edit.replace(match.node.outputs[0], match.node.inputs[0])
        edit.remove(match.node)


@dataclass
class CancelNegs:
    """Neg(Neg(x)) = x: each rewrite brings the next pair together."""

    root_ops: ClassVar[tuple[str, ...]] = ("Neg",)

    def match(self, node):
        inner = producer(node.inputs[0], "Neg")
        if inner is None or not has_one_use(inner.outputs[0]) or node.outputs[0].is_graph_output():
            return None
        return Match(outer=node, inner=inner)

    def rewrite(self, match, edit):
        edit.replace(match.outer.outputs[0], match.inner.inputs[0])
        edit.remove(match.outer, match.inner)


def chain(op_types):
    lines = [f"v{index + 1} = {op} (v{index})" for index, op in enumerate(op_types)]
    return f"(float[2] v0) => (float[2] y) {{ {' '.join(lines)} y = Relu (v{len(op_types)}) }}"


def test_rewrites_until_nothing_fits(build, run):
    model = build(chain(["Abs", *["Neg"] * 8]))
    assert apply_rules(model, [CancelNegs()]).count == 4
    assert [node.op_type for node in model.graph] == ["Abs", "Relu"]
    verify(model)
    assert apply_rules(model, [CancelNegs()]).count == 0


def test_a_rewrite_wakes_its_neighbors_whichever_side_they_are_on(build):
    """Abs(Neg Neg) nested: the outer pair fits only when the inner one is gone."""
    model = build(chain(["Abs", "Neg", "Identity", "Neg", "Neg", "Identity", "Neg"]))
    done = apply_rules(model, [DropIdentity(), CancelNegs()])
    assert [node.op_type for node in model.graph] == ["Abs", "Relu"]
    assert done.count == 4


def test_refusals_are_reported_once_with_place_and_remedy(build):
    model = build("(float[2] x) => (float[2] y) { a = Relu (x) y = Identity (a) }")
    assert apply_rules(model, [DropIdentity()]).refusals == [Refusal("Identity -> y", "is an output", "rename it")]


def test_a_refusal_that_a_later_rewrite_resolves_is_withdrawn(build):
    @dataclass
    class NeedsRelu:
        root_ops: ClassVar[tuple[str, ...]] = ("Abs",)

        def match(self, node):
            if producer(node.inputs[0], "Relu") is None:
                return Refusal.at(node, "no Relu before it")
            return None

        def rewrite(self, match, edit):
            raise AssertionError

    model = build("(float[2] x) => (float[2] y) { a = Relu (x) b = Identity (a) c = Abs (b) y = Neg (c) }")
    assert apply_rules(model, [DropIdentity(), NeedsRelu()]).refusals == []


def test_each_node_is_looked_at_once_where_nothing_changes(build):
    model = build(chain(["Abs", *["Identity"] * 5]))
    for node in model.graph:
        node.name = node.outputs[0].name
    rule = DropIdentity()
    rule.rewrite = None
    rule.match = lambda node: rule.looks.append(node.name)
    apply_rules(model, [rule])
    assert rule.looks == ["v2", "v3", "v4", "v5", "v6"]


def test_an_operator_of_another_domain_is_no_root_op(build):
    model = build("(float[2] x) => (float[2] y) { a = Relu (x) b = custom.Identity (a) y = Neg (b) }")
    rule = DropIdentity()
    assert apply_rules(model, [rule]).count == 0
    assert rule.looks == []


def test_subgraphs_and_functions_are_rewritten(build):
    model = build(
        """(bool c, float[3] x) => (float[3] y) {
            h = local.f (x)
            y = If (c) <then_branch = t () => (float[3] p) { i = Relu (h) j = Identity (i) p = Neg (j) },
                        else_branch = e () => (float[3] q) { k = Identity (h) q = Neg (k) }>
        }""",
        functions="""<domain: "local", opset_import: ["": 17]>
            f (a) => (b) { c = Relu (a) d = Identity (c) b = Neg (d) }""",
    )
    assert apply_rules(model, [DropIdentity()]).count == 3
    verify(model)


def test_a_misnamed_part_of_a_match_is_named():
    with pytest.raises(AttributeError, match=r"\['conv'\], not 'cnov'"):
        _ = Match(conv=1).cnov


def test_work_is_linear_in_the_graph(work):
    def rewrite(length):
        model = build_family("chain", nodes=length)
        return work(lambda: apply_rules(model, [DropIdentity(), CancelNegs()]))

    assert rewrite(4_000) < 4.4 * rewrite(1_000)


def test_a_value_with_many_readers_costs_no_quadratic_work(build, work):
    def rewrite(count):
        lines = [f"a{index} = Identity (h) b{index} = Neg (a{index})" for index in range(count)]
        model = build(f"(float[2] x) => (float[2] b0) {{ h = Relu (x) {' '.join(lines)} }}")
        calls = work(lambda: apply_rules(model, [DropIdentity()]))
        assert np.all([node.op_type != "Identity" for node in model.graph])
        return calls

    assert rewrite(2_000) < 4.4 * rewrite(500)
