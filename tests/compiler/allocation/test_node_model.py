"""Models of a single node: they run at any shape, and do the same work."""

from __future__ import annotations

import numpy as np
import pytest

from graphpress.allocation.node_model import node_model
from graphpress.analysis.cost import model_cost
from graphpress.analysis.shapes import infer_shapes
from graphpress.coupling import couple, unshare
from graphpress.coupling.cost import GroupCosts
from graphpress.models import build
from graphpress.runtime import Session


@pytest.mark.parametrize("family", ["resnet", "mobilenet_v2", "shufflenet", "unet", "vit", "gpt"])
def test_a_node_alone_runs_at_any_shape_with_the_same_work(family):
    model = build(family, batch=1)
    unshare(model)
    infer_shapes(model)
    costs = GroupCosts(model, couple(model))
    rng = np.random.default_rng(0)
    for _ in range(2):
        costs.keep_all({name: int(rng.integers(1, size + 1)) for name, size in costs.sizes.items()})
        for view, layer in costs.layers():
            if not layer.macs:
                continue
            alone = node_model(view)
            session = Session(alone)
            feed = {spec.name: np.zeros(spec.dims, spec.dtype) for spec in session.inputs}
            assert session.run(feed)["y0"].shape == view.output_shape()
            assert model_cost(alone).macs == layer.macs
