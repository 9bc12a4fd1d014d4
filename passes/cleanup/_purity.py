"""Operators whose result is not a function of their inputs."""

from __future__ import annotations

from graphpress.ir import Node, constant, input_of, is_standard

RANDOM = frozenset(("Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"))


def is_random(node: Node) -> bool:
    """Whether two runs on the same inputs may differ: random generators, and a Dropout that may be training."""
    if not is_standard(node):
        return False
    if node.op_type == "Dropout":
        flag = constant(input_of(node, 2))
        return "is_test" in node.attributes or (input_of(node, 2) is not None and (flag is None or bool(flag.any())))
    return node.op_type in RANDOM
