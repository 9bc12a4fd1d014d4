"""Operators whose result is not a function of their inputs."""

from __future__ import annotations

from graphpress.ir import Node, constant, input_of, int_attribute, opset_of
from graphpress.ops import lookup

FIRST_WITH_TRAINING_MODE = 7
"""The first operator set whose Dropout is for inference unless it says otherwise."""


def may_train(dropout: Node) -> bool:
    """Whether a Dropout drops something: up to opset 6 unless ``is_test`` is set, from 12 on if its input says so."""
    if (opset_of(dropout) or FIRST_WITH_TRAINING_MODE) < FIRST_WITH_TRAINING_MODE:
        return int_attribute(dropout, "is_test", 0) == 0
    training = input_of(dropout, 2)
    flag = constant(training)
    return training is not None and (flag is None or bool(flag.any()))


def is_random(node: Node) -> bool:
    """Whether two runs of a standard operator on the same inputs may differ: generators, a Dropout that may train."""
    if node.op_type == "Dropout":
        return may_train(node)
    spec = lookup(node.op_type)
    return spec is not None and not spec.foldable
