"""The rules that any backend can use, for a runtime that is nothing but data."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import onnx
import pytest

from graphpress.ir import from_proto
from graphpress.lint import (
    Limit,
    degraded,
    findings,
    limit_findings,
    mixture_findings,
    operator_rule,
    refusals,
    type_rule,
    unknown_operator,
)


@dataclass(frozen=True)
class Toy:
    """A runtime on a device."""

    runtime: str = "Toy"
    title: str = "Toy 1.0"
    before_folding: bool = False
    opset_max: int = 17
    operators: frozenset[str] = frozenset({"Add", "Cast", "Relu", "Resize", "Shape", "TopK"})
    limits: Mapping[str, tuple[Limit, ...]] = field(default_factory=dict)


def missing(where, dtype, toy):
    return degraded(where, f"{toy.title} computes {dtype} slowly", "use float32") if dtype == "float64" else None


RULES = (operator_rule(unknown_operator), limit_findings, type_rule(missing), mixture_findings)


def lint(text, toy=None, opset=17):
    source = f'<ir_version: 10, opset_import: ["": {opset}, "acme": 1]> {text}'
    model = from_proto(onnx.shape_inference.infer_shapes(onnx.parser.parse_model(source)))
    return list(findings(RULES, model, toy or Toy()))


def test_silent_on_what_it_reads():
    assert lint("g (float[2] x) => (float[2] y) { y = Relu(x) }") == []


@pytest.mark.parametrize(
    ("text", "opset", "why", "fix"),
    [
        ("g (float[2] x) => (float[2] y) { y = Erf(x) }", 17, "Toy 1.0 does not know Erf", "surgery"),
        ("g (float[2] x) => (float[2] y) { y = acme.Relu(x) }", 17, "does not know acme::Relu", "surgery"),
        (
            "g (float[2] x) => (float[2] y) { y = Relu(x) }",
            19,
            "operator set 19, and Toy 1.0 reads up to 17",
            "newer Toy",
        ),
        ("g (float[2] x, float16[2] z) => (float[2] y) { y = Add(x, z) }", 17, "Toy converts none by itself", "cast"),
    ],
)
def test_what_it_does_not_read_is_fatal(text, opset, why, fix):
    (finding,) = lint(text, opset=opset)
    assert finding.fatal
    assert why in finding.refusal.why
    assert fix in finding.refusal.fix


def test_a_type_that_it_lacks_is_said_at_each_tensor():
    findings = lint("g (double[2] x) => (double[2] y) { y = Relu(x) }")
    assert [(finding.fatal, "float64 slowly" in finding.refusal.why) for finding in findings] == [(False, True)] * 2
    assert len(refusals([*findings, *findings])) == 2


@pytest.mark.parametrize(
    ("limit", "text"),
    [
        ({"outputs": 1}, "g (float[9] x, int64[1] k) => (float[N] v, int64[N] i) { v, i = TopK(x, k) }"),
        ({"inputs": 1}, "g (float[9] x, int64[1] k) => (float[N] v) { v, i = TopK(x, k) }"),
        ({"input": 1, "constant": True}, "g (float[9] x, int64[1] k) => (float[N] v) { v, i = TopK(x, k) }"),
        ({"input": 1, "max": 4}, "g (float[9] x) => (float[N] v) <int64[1] k = {5}> { v, i = TopK(x, k) }"),
        ({"attribute": "largest", "allowed": (1,)},
         "g (float[9] x, int64[1] k) => (float[N] v) { v, i = TopK<largest = 0>(x, k) }"),
        ({"rank": 2}, "g (float[9] x, int64[1] k) => (float[N] v) { v, i = TopK(x, k) }"),
    ],
)  # fmt: skip
def test_each_kind_of_limit(limit, text):
    toy = Toy(limits={"TopK": (Limit(("TopK",), "is not so general", "do otherwise", **limit),)})
    (finding,) = lint(text, toy)
    assert finding.refusal.why == "Toy 1.0's TopK is not so general"
    assert lint(text) == []


def test_nodes_that_will_fold_are_left_out_before_folding():
    text = "g (float[2] x) => (float[2] y) { s = Shape(x) e = Erf(s) y = Relu(x) }"
    plain = "g (float[2] x) => (float[2] y) <float[2] c = {1, 2}> { e = Erf(c) y = Add(x, e) }"
    assert [finding.refusal.why for finding in lint(plain)] == ["Toy 1.0 does not know Erf"]
    assert lint(plain, Toy(before_folding=True)) == []
    assert lint(text, Toy(before_folding=True)) == []
