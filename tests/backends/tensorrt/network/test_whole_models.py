"""Whole models lowered to TensorRT: they compute what ONNX Runtime computes, build, and multiply in the types asked."""

from __future__ import annotations

import numpy as np
import pytest

from graphpress.backend import ShapeRange
from graphpress.backends.tensorrt.build import BuildRequest, build
from graphpress.backends.tensorrt.engine_layers import types_of_nodes
from graphpress.backends.tensorrt.legalize import strong_form
from graphpress.backends.tensorrt.quantization_roles import quantization_roles
from graphpress.ir import clone, save
from graphpress.manager.contract import Context
from graphpress.manager.recipe import from_text
from graphpress.models import build as make
from graphpress.runtime import Session
from graphpress.targets import load_target

BATCH, LENGTH = 2, 16
PREPARE, HALF = "raise_opset{to=21},cleanup,fuse", "reduce_precision{to=float16}"
RECIPES = {
    "int8": (f"{PREPARE},quantize,{HALF}".replace("21", "19"), "jetson-orin", "8.6"),
    "float16": (f"{PREPARE},{HALF}", "rtx", "8.6"),
    "bfloat16": (f"{PREPARE},{HALF}".replace("to=float16", "to=bfloat16"), "rtx", "8.6"),
    "int4": (f"{PREPARE},quantize_weights{{dtype=int4,block_size=32}},{HALF}", "rtx", "8.6"),
    "float8e4m3fn": (f"{PREPARE},quantize{{dtype=float8e4m3fn}},{HALF}", "rtx-ada", "8.9"),
}
"""By the type of products: the passes, the target and the compute capability that is built for."""
PRODUCTS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
SMALL = {
    "bert": {"layers": 1},
    "crnn": {},
    "detector": {},
    "gpt": {"layers": 1},
    "lstm": {},
    "mobilenet_v3": {},
    "resnet": {},
    "unet": {},
    "vit": {"layers": 1},
    "wavenet": {},
}
LEAST = {
    "bfloat16": {"gpt": 6, "lstm": 1},
    "float16": {"unet": 10, "bert": 6, "lstm": 1},
    "float8e4m3fn": {"vit": 3, "gpt": 3},
    "int4": {"gpt": 4, "bert": 5},
    "int8": {"crnn": 3, "detector": 15, "gpt": 3, "mobilenet_v3": 30, "resnet": 9, "unet": 10, "vit": 4, "wavenet": 8},
}
"""How many products must be in that type, by type and model."""


def feed_of(model, seed=0):
    random, feed = np.random.default_rng(seed), {}
    for one in Session(model).inputs:
        shape = [dim if isinstance(dim, int) else (LENGTH if axis else BATCH) for axis, dim in enumerate(one.dims)]
        floating = np.dtype(one.dtype).kind == "f"
        feed[one.name] = (random.standard_normal(shape) if floating else random.integers(0, 2, shape)).astype(one.dtype)
    return feed


@pytest.mark.parametrize("name", SMALL)
def test_whole_models_compute_the_same_and_build(bench, name):
    model = make(name, **SMALL[name])
    feed = feed_of(model)
    network = bench.lower(model)
    results = bench.run(network, feed)
    for got, wanted in zip(results, Session(model, optimization="none").run(feed).values(), strict=True):
        assert got.shape == wanted.shape
        np.testing.assert_allclose(got, wanted, rtol=1e-3, atol=1e-5 * max(1.0, float(np.abs(wanted).max())))
    assert [network.get_output(index).name for index in range(network.num_outputs)] == [
        value.name for value in model.graph.outputs
    ]
    assert bench.build(network) > 0


def compressed(model, recipe, target):
    """As the target takes it, every type written out."""
    context = Context(load_target(target), clone(model), calibration=[feed_of(model, seed) for seed in range(2)])
    for each in from_text(recipe).passes:
        if each.refuse(model, context) is None:
            each.run(model, context)
    return strong_form(model)


def profile_of(model):
    profile = {}
    for value in model.graph.inputs:
        dims = [dim if isinstance(dim, int) else None for dim in value.shape]
        if None in dims:
            shapes = (
                [(LENGTH if axis else BATCH) * times if dim is None else dim for axis, dim in enumerate(dims)]
                for times in (1, 2)
            )
            least, most = (tuple(shape) for shape in shapes)
            profile[value.name] = ShapeRange(least, least, most)
    return profile


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, models in LEAST.items() for name in models])
def test_both_routes_multiply_in_the_same_types(trt, tmp_path, kind, name):
    recipe, target, capability = RECIPES[kind]
    model = compressed(make(name, **SMALL[name]), recipe, target)
    file = tmp_path / "model.onnx"
    save(model, file)
    operators = {node.name: node.op_type for node in model.graph}
    found = {}
    for route in ("parser", "network"):
        result = build(BuildRequest(file, capability, profile=profile_of(model), route=route))
        assert result.built, [message.text for message in result.messages]
        types = types_of_nodes(result.layers, quantization_roles(model))
        found[route] = {node: each for node, each in types.items() if operators.get(node) in PRODUCTS}
    assert found["network"] == found["parser"]
    assert sum(each == kind for each in found["network"].values()) >= LEAST[kind][name]
