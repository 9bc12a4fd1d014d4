import pytest

from graphpress.errors import DataError, UsageError
from graphpress.ir import constant
from graphpress.passes.training.train import Train

LOOP = """
import torch

def scale(trainable, context):
    assert context.calibration is not None
    feed = {name: torch.from_numpy(array) for name, array in next(iter(context.calibration)).items()}
    outputs = trainable.module(feed)
    outputs["logits"].square().mean().backward()
    with torch.no_grad():
        for parameter in trainable.parameters.values():
            assert parameter.grad is not None
            parameter.mul_(0.5)
    return "halved"

def breaks(trainable, context):
    with torch.no_grad():
        for parameter in trainable.parameters.values():
            parameter.zero_()
    raise RuntimeError("no idea")

number = 3
"""


@pytest.fixture(autouse=True)
def loop(tmp_path, monkeypatch):
    (tmp_path / "my_loop.py").write_text(LOOP, encoding="utf-8")
    monkeypatch.chdir(tmp_path)


def test_the_users_loop_trains(network, context_of):
    conv = next(node for node in network.graph if node.op_type == "Conv")
    before = constant(conv.inputs[1]).copy()
    outcome = Train("my_loop:scale").run(network, context_of())
    assert outcome.notes == ["halved"]
    assert outcome.changes > 10
    assert (constant(conv.inputs[1]) == before * 0.5).all()


@pytest.mark.parametrize(
    ("reference", "error", "what"),
    [
        ("my_loop:breaks", DataError, "no idea"),
        ("my_loop:number", DataError, "not a function"),
        ("my_loop:absent", UsageError, "absent"),
        ("no_such_module:loop", UsageError, "no_such_module"),
        ("", UsageError, "names no function"),
        ("loop.py", UsageError, "names no function"),
    ],
)
def test_loops_that_cannot_be_used(network, context_of, weights, reference, error, what):
    before = weights(network)
    with pytest.raises(error, match=what):
        Train(reference).run(network, context_of())
    assert weights(network) == before
