"""How large a model is: cheap enough to ask after every pass. ``graphpress.analysis.cost`` tells more."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from graphpress.analysis.cost import LayerCounter, costed_nodes
from graphpress.ir import Dims, Model, count_nodes, weight_bytes


@dataclass(frozen=True)
class ModelSize:
    """A model in numbers.

    Args:
        nodes: nodes of all graphs.
        parameters: elements of all weights, each counted once.
        bytes: size of all constants, as the model holds them.
        macs: multiply-accumulates of one call; None where they depend on a shape that is not known.
    """

    nodes: int
    parameters: int
    bytes: int
    macs: int | None


def model_size(model: Model, shapes: Mapping[str, Dims]) -> ModelSize:
    """Count.

    Args:
        model: the model.
        shapes: static shapes by value name.
    """
    counter = LayerCounter(shapes)
    sizes = [counter.size(node) for node in costed_nodes(model)]
    return ModelSize(
        nodes=count_nodes(model),
        parameters=sum(parameters for _, parameters in sizes),
        bytes=weight_bytes(model),
        macs=None if counter.unknown else sum(macs for macs, _ in sizes),
    )
