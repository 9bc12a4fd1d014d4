"""Operators whose result is not a function of their inputs."""

from __future__ import annotations

from graphpress.ir import Node, constant, input_of
from graphpress.ops import lookup


def is_random(node: Node) -> bool:
    """Whether two runs of a standard operator on the same inputs may differ: generators, a Dropout that may train."""
    if node.op_type == "Dropout":
        training = input_of(node, 2)
        flag = constant(training)
        return "is_test" in node.attributes or (training is not None and (flag is None or bool(flag.any())))
    spec = lookup(node.op_type)
    return spec is not None and not spec.foldable
