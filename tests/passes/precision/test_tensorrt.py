"""What TensorRT makes of half precision, asked ahead of time for a compute capability: no GPU is needed."""

import pytest

from graphpress.backends.tensorrt.build import BuildRequest, build
from graphpress.backends.tensorrt.engine_layers import types_of_nodes
from graphpress.backends.tensorrt.profiles import profile_of
from graphpress.backends.tensorrt.toolchain import find_toolchain
from graphpress.data import shapes_of
from graphpress.ir import save
from graphpress.ir.encoding import compute_request, float_type
from graphpress.manager.contract import Context
from graphpress.passes.fusion.raise_opset import RaiseOpset
from graphpress.passes.quantize.quantize import Quantize
from graphpress.targets import load_target


@pytest.fixture(scope="module", autouse=True)
def toolchain():
    if find_toolchain("tensorrt_rtx") is None:
        pytest.skip("needs tensorrt_rtx: pip install 'graphpress[tensorrt]'")


def became(done, folder):
    """In which type each node computes on SM86, by its name."""
    legal = done.legal()
    save(legal, folder / "model.onnx")
    request = BuildRequest(
        folder / "model.onnx",
        capability="8.6",
        profile=profile_of(legal, {}, [shapes_of(feed) for feed in done.feeds]),
        product="tensorrt_rtx",
    )
    result = build(request)
    assert result.built, result.messages
    return types_of_nodes(result.layers)


@pytest.mark.parametrize("family", ["bert", "detr", "gpt", "lstm", "resnet", "swin", "vit", "yolo"])
def test_float16_builds_and_products_are_in_half(cleaned, reduce, tmp_path, family):
    done = reduce(cleaned(family))
    types = became(done, tmp_path)
    products = [node for node in done.model.graph if node.op_type in ("Conv", "MatMul", "Gemm", "LSTM")]
    assert all(float_type(node) == "float16" for node in products)
    assert {types[node.name] for node in products if node.name in types} == {"float16"}


@pytest.mark.parametrize(
    ("family", "opset"), [("resnet", 17), ("resnet", 19), ("unet", 17), ("unet", 19), ("bert", 20), ("vit", 20)]
)
def test_integers_and_float16_become_both(cleaned, feeds, reduce, tmp_path, family, opset):
    """Before opset 19 there are Casts around Q/DQ nodes; TensorRT fuses both forms."""
    model = cleaned(family)
    data = feeds(model)
    context = Context(target=load_target("jetson"), original=model, calibration=data)
    RaiseOpset(to=opset).run(model, context)
    Quantize().run(model, context)
    done = reduce(model, data)
    types = became(done, tmp_path)
    for node in done.model.graph:
        if compute_request(node) == "int8" and node.op_type in ("Conv", "Gemm", "MatMul"):
            assert types[node.name] == "int8", node.name
        elif node.op_type == "MatMul":
            assert types[node.name] == "float16", node.name


def test_bfloat16_builds(cleaned, reduce, tmp_path):
    model = cleaned("resnet")
    target = "dgpu{tensorrt=11.4}"
    RaiseOpset(to=22).run(model, Context(target=load_target(target), original=model))
    done = reduce(model, target=target, to="bfloat16")
    types = became(done, tmp_path)
    assert {types[node.name] for node in done.model.graph if node.op_type == "Conv"} == {"bfloat16"}
