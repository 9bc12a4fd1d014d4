"""Parts of graphs as models of their own."""

import numpy as np
import pytest

from graphpress.ir import DataType, Shape, TensorType, clone, serialize
from graphpress.ir.extract import extract
from graphpress.models import build
from graphpress.runtime import Session


@pytest.fixture(scope="module")
def network():
    return build("resnet", depth=8, stem="cifar", width=4, image=8, classes=4)


def test_two_parts_make_the_whole(network):
    middle = next(node for node in network.graph if node.op_type == "Add").outputs[0].name
    output = network.graph.outputs[0].name
    data = np.random.default_rng(0).normal(size=(2, 3, 8, 8)).astype(np.float32)
    front, back = extract(network, ["input"], [middle]), extract(network, [middle], [output])
    assert len(front.graph) + len(back.graph) <= len(network.graph)
    for value in back.graph.inputs:
        value.type, value.shape = TensorType(DataType.FLOAT), Shape([None] * 4)
    halfway = Session(front).run({"input": data})
    np.testing.assert_allclose(
        Session(back).run(halfway)[output], Session(network).run({"input": data})[output], atol=1e-5
    )


def test_the_model_stays_as_it_was(network):
    before = serialize(clone(network))
    part = extract(network, ["input"], [network.graph.outputs[0].name])
    part.graph.outputs[0].name = "another"
    assert serialize(network) == before


def test_what_is_not_there_is_an_error(network):
    with pytest.raises(ValueError, match="nowhere"):
        extract(network, ["input"], ["nowhere"])
