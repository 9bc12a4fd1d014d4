"""The deep learning accelerator: what falls back to the GPU, with the reason."""

import numpy as np
import pytest
from onnx import TensorProto as T

from graphpress.backends.tensorrt.lint import lint
from graphpress.targets import load_target

ON = "jetson{dla=on}"
IMAGE = (1, 32, 16, 16)


def single(net, op_type, *constants, shape=IMAGE, others=(), **attributes):
    made = net(shape, opset=17, dtype=T.FLOAT)
    operands = ["x", *(made.input(f"x{index}", other) for index, other in enumerate(others))]
    operands += [
        made.constant(array, T.INT64 if np.asarray(array).dtype.kind == "i" else T.FLOAT) for array in constants
    ]
    return made.output(made.node(op_type, *operands, name="n", **attributes))


KERNEL = np.ones((32, 32, 3, 3))

RUNS = {
    "convolution": lambda net: single(net, "Conv", KERNEL, pads=[1, 1, 1, 1]),
    "deconvolution": lambda net: single(net, "ConvTranspose", np.ones((32, 8, 2, 2)), strides=[2, 2]),
    "pooling": lambda net: single(net, "MaxPool", kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[2, 2]),
    "addition": lambda net: single(net, "Add", others=[IMAGE]),
    "scaling by channel": lambda net: single(net, "Mul", others=[(1, 32, 1, 1)]),
    "relu6": lambda net: single(net, "Clip", 0.0, 6.0),
    "joining channels": lambda net: single(net, "Concat", others=[IMAGE], axis=1),
    "enlarging": lambda net: single(net, "Resize", np.array([], np.float32), np.float32([1, 1, 2, 2]), mode="nearest"),
    "cutting": lambda net: single(net, "Slice", np.array([0]), np.array([8]), np.array([2])),
    "product": lambda net: single(net, "Gemm", np.ones((64, 8)), shape=(4, 64)),
}

FALLS_BACK = {
    "Gelu written out": (lambda net: single(net, "Erf"), "it has no Erf"),
    "global pooling": (lambda net: single(net, "GlobalAveragePool"), "it has no GlobalAveragePool"),
    "large kernel": (lambda net: single(net, "Conv", np.ones((8, 32, 33, 1)), shape=(1, 32, 64, 8)), "kernel of 33"),
    "large stride": (lambda net: single(net, "Conv", KERNEL, strides=[9, 9]), "stride of 9 is outside 1 to 8"),
    "volumes": (lambda net: single(net, "Conv", np.ones((8, 4, 1, 1, 1)), shape=(1, 4, 4, 4, 4)), "images only"),
    "weights at run time": (lambda net: single(net, "Conv", others=[(32, 32, 3, 3)]), "its weight is no constant"),
    "padded deconvolution": (
        lambda net: single(net, "ConvTranspose", np.ones((32, 8, 3, 3)), pads=[1, 1, 1, 1]),
        "padding of 1 is outside 0 to 0",
    ),
    "grouped deconvolution": (lambda net: single(net, "ConvTranspose", np.ones((32, 1, 2, 2)), group=32), "no groups"),
    "large window": (lambda net: single(net, "MaxPool", kernel_shape=[9, 9]), "window of 9"),
    "averages without the padding": (
        lambda net: single(net, "AveragePool", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        "count the padding",
    ),
    "clipping elsewhere": (lambda net: single(net, "Clip", -1.0, 1.0), "clips from 0"),
    "joining rows": (lambda net: single(net, "Concat", others=[IMAGE], axis=2), "along channels only"),
    "broadcasting rows": (lambda net: single(net, "Add", others=[(1, 1, 1, 16)]), "one value a channel"),
    "broken enlargement": (
        lambda net: single(net, "Resize", np.array([], np.float32), np.float32([1, 1, 1.5, 1.5]), mode="nearest"),
        "whole numbers up to 32",
    ),
    "cutting at run time": (lambda net: cut_at_run_time(net), "its range is open"),
    "large dimension": (lambda net: single(net, "Relu", shape=(1, 1, 1, 9000)), "dimension of 9000 is above 8192"),
    "large batch": (lambda net: single(net, "Relu", shape=(5000, 1, 4, 4)), "batch of 5000 is above 4096"),
}


def cut_at_run_time(net):
    made = net(IMAGE, opset=17, dtype=T.FLOAT)
    start = made.input("start", (1,), T.INT64)
    return made.output(made.node("Slice", "x", start, made.constant([8], T.INT64), name="n"))


@pytest.mark.parametrize("name", RUNS)
def test_what_it_runs(net, name):
    assert lint(RUNS[name](net).model, load_target(ON)) == []


@pytest.mark.parametrize("name", FALLS_BACK)
def test_what_falls_back_is_named(net, name, fatal):
    make, why = FALLS_BACK[name]
    model = make(net).model
    (refusal,) = lint(model, load_target(ON))
    assert refusal.where == "n"
    assert why in refusal.why
    assert "the GPU computes it" in refusal.fix
    assert fatal(model, load_target(ON)) == []
    assert lint(model, load_target("jetson")) == []


def test_of_open_dimensions_the_accelerator_takes_the_usual_sizes_alone(net):
    made = single(net, "Add", shape=("batch", 32, 16, 16), others=[("batch", 32, 1, 1)])
    refusals = lint(made.model, load_target(ON))
    assert [item.where for item in refusals] == ["x", "x0"]
    assert "one shape only" in refusals[0].why
    assert "--input-range" in refusals[0].fix
    assert "--input-shape" in refusals[0].fix
    assert lint(made.model, load_target("jetson")) == []


def test_quantization_is_no_layer(net):
    made = net(IMAGE, opset=17, dtype=T.FLOAT)
    made.output(made.node("Conv", made.grid("x"), made.weight((32, 32, 3, 3)), name="n"))
    assert lint(made.model, load_target(ON)) == []


@pytest.mark.parametrize(("target", "fine"), [(ON, True), ("jetson-xavier{dla=on}", False)])
def test_xavier_has_fewer_layers(net, target, fine):
    refusals = lint(single(net, "Softmax", axis=1).model, load_target(target))
    assert (refusals == []) is fine
    assert fine or "Xavier has no Softmax" in refusals[0].why
