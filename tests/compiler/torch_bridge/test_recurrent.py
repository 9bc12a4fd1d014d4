"""Recurrent layers in every form that ONNX Runtime has, against ONNX Runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from graphpress import torch_bridge
from graphpress.ir import Model, from_proto
from graphpress.runtime import Session

torch = pytest.importorskip("torch", reason="the bridge needs PyTorch: pip install 'graphpress[torch]'")

torch.set_num_threads(1)

STEPS, BATCH, SIZE, WIDTH = 5, 3, 4, 6
GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
SMOOTH = ["Affine", "Elu", "HardSigmoid", "LeakyRelu", "Relu", "ScaledTanh", "Sigmoid", "Softplus", "Softsign", "Tanh"]


def layer(op_type: str, given: tuple[str, ...], attributes: dict[str, Any]) -> tuple[Model, dict[str, np.ndarray]]:
    """A layer that reads these optional inputs, and a feed."""
    ways, gates = 2 if attributes.get("direction") == "bidirectional" else 1, GATES[op_type]
    shapes = {
        "x": (STEPS, BATCH, SIZE),
        "w": (ways, gates * WIDTH, SIZE),
        "r": (ways, gates * WIDTH, WIDTH),
        "bias": (ways, 2 * gates * WIDTH),
        "lengths": (BATCH,),
        "hidden": (ways, BATCH, WIDTH),
        "cell": (ways, BATCH, WIDTH),
        "peepholes": (ways, 3 * WIDTH),
    }
    read = [name if name in ("x", "w", "r", *given) else "" for name in shapes]
    read = read if op_type == "LSTM" else read[:6]
    outputs = ["y", "last", "kept"][: 3 if op_type == "LSTM" else 2]
    node = helper.make_node(op_type, read, outputs, hidden_size=WIDTH, **attributes)
    kinds = {name: TensorProto.INT32 if name == "lengths" else TensorProto.FLOAT for name in shapes}
    graph = helper.make_graph(
        [node],
        op_type,
        [helper.make_tensor_value_info(name, kinds[name], shapes[name]) for name in read if name],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
    )
    generator = np.random.default_rng(0)
    feed = {name: generator.standard_normal(shapes[name]).astype(np.float32) for name in read if name}
    if "lengths" in feed:
        feed["lengths"] = np.array([3, STEPS, 1], np.int32)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)
    return from_proto(proto), feed


def assert_runs_like_the_runtime(op_type: str, given: tuple[str, ...] = (), **attributes: Any) -> None:
    model, feed = layer(op_type, given, attributes)
    module = torch_bridge.to_module(model).module
    got = module({name: torch.from_numpy(array) for name, array in feed.items()})
    for name, wanted in Session(model).run(feed).items():
        np.testing.assert_allclose(got[name].numpy(), wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("given", [(), ("bias",), ("bias", "hidden"), ("bias", "lengths"), ("lengths", "hidden")])
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("op_type", GATES)
def test_directions_and_optional_inputs(op_type: str, direction: str, given: tuple[str, ...]) -> None:
    assert_runs_like_the_runtime(op_type, given, direction=direction)


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
def test_an_lstm_with_all_it_can_have(direction: str) -> None:
    given = ("bias", "lengths", "hidden", "cell", "peepholes")
    assert_runs_like_the_runtime("LSTM", given, direction=direction)
    assert_runs_like_the_runtime("LSTM", given, direction=direction, clip=0.5)


def test_coupled_gates() -> None:
    assert_runs_like_the_runtime("LSTM", ("bias", "cell"), input_forget=1)


@pytest.mark.parametrize("direction", ["forward", "bidirectional"])
def test_a_reset_gate_after_the_product(direction: str) -> None:
    given = ("bias", "lengths", "hidden")
    assert_runs_like_the_runtime("GRU", given, direction=direction, linear_before_reset=1)
    assert_runs_like_the_runtime("GRU", given, direction=direction, linear_before_reset=1, clip=0.3)


@pytest.mark.parametrize("activation", SMOOTH)
def test_activations_with_their_defaults(activation: str) -> None:
    if activation not in ("Affine", "ScaledTanh"):  # the runtime has no defaults of these
        assert_runs_like_the_runtime("RNN", ("bias",), activations=[activation])


def test_numbers_of_activations_are_taken_in_turn() -> None:
    activations = ["HardSigmoid", "Tanh", "ScaledTanh", "Sigmoid", "LeakyRelu", "Affine"]
    numbers = {"activation_alpha": [0.3, 1.2, 0.2, 0.7], "activation_beta": [0.4, 0.6, 0.1]}
    assert_runs_like_the_runtime("LSTM", ("bias",), direction="bidirectional", activations=activations, **numbers)


@pytest.mark.parametrize("op_type", GATES)
def test_batch_first_is_the_same_with_axes_exchanged(op_type: str) -> None:
    """The runtime has no such layout."""
    given = ("bias", "lengths", "hidden")
    model, feed = layer(op_type, given, {"direction": "bidirectional"})
    swapped, _ = layer(op_type, given, {"direction": "bidirectional", "layout": 1})
    tensors = {name: torch.from_numpy(array) for name, array in feed.items()}
    plain = torch_bridge.to_module(model).module(tensors)
    tensors |= {name: tensors[name].transpose(0, 1) for name in ("x", "hidden")}
    transposed = torch_bridge.to_module(swapped).module(tensors)
    assert torch.equal(transposed["y"], plain["y"].permute(2, 0, 1, 3))
    assert torch.equal(transposed["last"], plain["last"].transpose(0, 1))


@pytest.mark.parametrize("direction", ["reverse", "bidirectional"])
@pytest.mark.parametrize("op_type", GATES)
def test_gradients_through_time(op_type: str, direction: str) -> None:
    given = ("bias", "lengths", "hidden", *(("cell", "peepholes") if op_type == "LSTM" else ()))
    model, feed = layer(op_type, given, {"direction": direction})
    module = torch_bridge.to_module(model).module.double()
    lengths = torch.from_numpy(feed.pop("lengths"))
    names = list(feed)
    floats = [torch.from_numpy(array).double().requires_grad_() for array in feed.values()]

    def run(*tensors: Any) -> Any:
        return module({**dict(zip(names, tensors, strict=True)), "lengths": lengths})["y"]

    assert torch.autograd.gradcheck(run, floats, fast_mode=True)
