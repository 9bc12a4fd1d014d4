"""Every family: valid ONNX, runs in ONNX Runtime with sane outputs, the same bytes each time, the stated size."""

import math
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

import graphpress.models
from graphpress.errors import UsageError
from graphpress.ir import Model, count_nodes, graphs, serialize
from graphpress.models import build, names

SHARED_MODULES = {"__init__", "architecture", "blocks", "builder", "transformer"}

NODES = {
    "bert": 258,
    "branches": 37,
    "chain": 1000,
    "conformer": 244,
    "control_flow": 16,
    "convnext": 124,
    "crnn": 31,
    "densenet": 69,
    "detector": 172,
    "detr": 326,
    "dla": 110,
    "dpn": 162,
    "edsr": 24,
    "efficientnet": 289,
    "generator": 13,
    "ghostnet": 165,
    "gpt": 259,
    "hourglass": 172,
    "hrnet": 96,
    "inception": 132,
    "llama": 381,
    "lstm": 37,
    "mixer": 105,
    "mobilenet_v2": 223,
    "mobilenet_v3": 381,
    "mobilevit": 259,
    "nas": 1539,
    "pointnet": 63,
    "poolformer": 193,
    "recommender": 45,
    "repvgg": 48,
    "res2net": 137,
    "resnest": 255,
    "resnet": 69,
    "resnext": 73,
    "senet": 109,
    "shufflenet": 212,
    "shufflenet_v1": 192,
    "squeezenet": 50,
    "swin": 447,
    "unet": 52,
    "vgg": 37,
    "vit": 249,
    "wavenet": 48,
    "yolo": 286,
}

VARIANTS = [
    ("resnet", {"depth": 50, "width": 8}),
    ("resnet", {"depth": 20, "stem": "cifar", "image": 32, "batch": 1}),
    ("resnet", {"batch_norm": False}),
    ("vgg", {"depth": 11, "batch_norm": True}),
    ("mobilenet_v2", {"batch_norm": False, "batch": 3}),
    ("mobilenet_v3", {"decomposed": False}),
    ("shufflenet", {"batch": 1}),
    ("unet", {"upsample": "resize", "batch_norm": False}),
    ("unet", {"upsample": "resize", "image": "side", "levels": 2}),
    ("bert", {"decomposed": False, "sequence": 16, "layers": 6}),
    ("gpt", {"norm": "rms", "rotary": True, "mask": "trilu", "tied": False}),
    ("gpt", {"layers": 6}),
    ("vit", {"decomposed": False, "batch": 1}),
    ("lstm", {"cell": "GRU", "steps": 5}),
    ("detector", {"batch_norm": False, "batch": 1}),
    ("control_flow", {"batch": 2}),
    ("nas", {"nodes": 300}),
    *(
        (name, {"batch": 2})
        for name in ("crnn", "detr", "mobilevit", "recommender", "resnest", "shufflenet_v1", "swin")
    ),
    ("conformer", {"frames": 32}),
    ("dpn", {"blocks": (3, 1)}),
    ("edsr", {"image": "side", "factor": 3}),
    ("hourglass", {"stacks": 1, "depth": 1}),
    ("hrnet", {"branches": 2}),
    ("llama", {"groups": 1, "sequence": 8}),
    ("pointnet", {"points": 20}),
    ("resnest", {"radix": 3, "groups": 1, "width": 12}),
    ("shufflenet_v1", {"groups": 4, "width": 64}),
    ("swin", {"window": 2, "heads": 4}),
    ("wavenet", {"layers": 7, "steps": 40}),
]


def run(model: Model) -> list[np.ndarray]:
    """Outputs for random inputs; integers are 0 or 1, dynamic sizes 2 (batch) and 32 (others)."""
    session = onnxruntime.InferenceSession(serialize(model), providers=["CPUExecutionProvider"])
    random = np.random.default_rng(0)
    feed = {}
    for given in session.get_inputs():
        dims = [dim if isinstance(dim, int) else 2 if dim == "batch" else 32 for dim in given.shape]
        is_integer = given.type == "tensor(int64)"
        feed[given.name] = random.integers(0, 2, dims) if is_integer else random.standard_normal(dims, np.float32)
    declared = [tuple(dim for dim in out.shape if isinstance(dim, int)) for out in session.get_outputs()]
    outputs = session.run(None, feed)
    for static, output in zip(declared, outputs, strict=True):
        assert set(static) <= set(output.shape)
    return outputs


def assert_sound(model: Model) -> None:
    proto = onnx.load_from_string(serialize(model))
    onnx.checker.check_model(proto, full_check=True)
    for output in run(model):
        assert np.isfinite(output).all()
        assert 0.01 < output.std() < 10


def parameters(model: Model) -> int:
    """Elements of the floating-point initializers, running statistics left out."""
    return sum(
        math.prod(value.const_value.shape)
        for name, value in model.graph.initializers.items()
        if "running" not in name and value.dtype.is_floating_point()
    )


@pytest.mark.parametrize("name", names())
def test_the_default_sizes(name):
    model = build(name)
    assert_sound(model)
    assert len(model.graph) == NODES[name]
    assert len(serialize(model)) < 4_000_000


@pytest.mark.parametrize("name", names())
def test_the_same_arguments_give_the_same_bytes(name):
    assert serialize(build(name)) == serialize(build(name))
    assert serialize(build(name)) != serialize(build(name, seed=1))


@pytest.mark.parametrize(("name", "sizes"), VARIANTS)
def test_variants(name, sizes):
    assert_sound(build(name, **sizes))


@pytest.mark.parametrize("opset", [13, 18, 21])
@pytest.mark.parametrize("name", [name for name in names() if name != "nas"])
def test_operator_sets(name, opset):
    model = build(name, opset=opset)
    assert model.opset_imports[""] == opset
    assert_sound(model)


@pytest.mark.parametrize(
    ("name", "sizes", "nodes", "millions"),
    [
        ("resnet", {"depth": 50, "width": 64, "image": 224, "classes": 1000}, 175, 25.557),
        ("resnet", {"depth": 18, "width": 64, "image": 224, "classes": 1000}, 69, 11.690),
        ("densenet", {"blocks": (6, 12, 24, 16), "growth": 32, "stem": 64, "classes": 1000}, 431, 7.979),
        ("mobilenet_v2", {"multiplier": 1.0, "classes": 1000}, 222, 3.505),
        ("mobilenet_v3", {"multiplier": 1.0, "classes": 1000}, 381, 5.483),
    ],
)
def test_the_papers_sizes(name, sizes, nodes, millions):
    model = build(name, **sizes)
    assert len(model.graph) == nodes
    assert parameters(model) == pytest.approx(millions * 1e6, abs=500)


def test_batch_norm_is_kept_or_left_out():
    for name in ("resnet", "mobilenet_v2", "mobilenet_v3", "unet", "detector"):
        assert "BatchNormalization" in operators(build(name))
        assert "BatchNormalization" not in operators(build(name, batch_norm=False))


def test_control_flow_has_nested_subgraphs_a_function_and_a_vendors_domain():
    model = build("control_flow")
    assert {"If", "Loop", "Scan"} <= operators(model)
    assert len(list(graphs(model))) == 8
    assert {node.domain for node in model.graph} == {"", "graphpress.example", "com.microsoft"}


def test_causal_masks_agree_and_hide_the_future():
    sizes = {"sequence": 8, "batch": 1}
    ids = np.arange(8)[None]
    sessions = [
        onnxruntime.InferenceSession(serialize(build("gpt", mask=mask, **sizes)), providers=["CPUExecutionProvider"])
        for mask in ("constant", "trilu")
    ]
    first, second = (session.run(None, {"input_ids": ids})[0] for session in sessions)
    np.testing.assert_allclose(first, second, rtol=1e-5, atol=1e-5)
    changed = sessions[0].run(None, {"input_ids": np.where(ids == 7, 50, ids)})[0]
    np.testing.assert_array_equal(changed[:, :7], first[:, :7])
    assert not np.allclose(changed[:, 7], first[:, 7])


@pytest.mark.parametrize("nodes", [1, 2, 3, 4000])
def test_a_chain_has_the_length_asked_for(nodes):
    assert len(build("chain", nodes=nodes).graph) == nodes


@pytest.mark.parametrize("nodes", [1, 50, 2000])
def test_branches_have_the_nodes_asked_for_and_few_more(nodes):
    assert nodes <= count_nodes(build("branches", nodes=nodes)) < nodes + 40


@pytest.mark.parametrize("nodes", [100, 700, 1500])
def test_a_searched_graph_has_about_the_size_asked_for(nodes):
    assert nodes <= len(build("nas", nodes=nodes).graph) < nodes + 150


def test_every_module_is_a_family():
    modules = {file.stem for file in Path(graphpress.models.__file__).parent.glob("*.py")}
    assert set(names()) == modules - SHARED_MODULES


@pytest.mark.parametrize(
    ("name", "sizes", "message"),
    [
        ("resnat", {}, "did you mean 'resnet'"),
        ("resnet", {"dept": 18}, "did you mean 'depth'"),
        ("resnet", {"depth": 19}, "no ResNet of depth 19"),
        ("resnet", {"stem": "cifr"}, "did you mean 'cifar'"),
        ("resnet", {"width": 0}, "width: 0 is no size"),
        ("densenet", {"blocks": (2, -1)}, "blocks: -1 is no size"),
        ("resnet", {"opset": 12}, "operator set 12 is too old"),
        ("gpt", {"mask": "trilu", "opset": 13}, "Trilu is not in operator set 13"),
        ("vgg", {"depth": 12}, "no VGG of depth 12"),
        ("vgg", {"image": 33}, "multiple of 32"),
        ("unet", {"image": 60}, "multiple of 8"),
        ("detector", {"image": 48}, "multiple of 32"),
        ("shufflenet", {"width": 15}, "multiple of 2"),
        ("bert", {"heads": 5}, "multiple of 5"),
        ("gpt", {"rotary": True, "width": 36, "heads": 4}, "multiple of 8"),
        ("vit", {"patch": 7}, "multiple of 7"),
        ("shufflenet_v1", {"width": 40}, "multiple of 12"),
        ("resnext", {"groups": 5}, "multiple of 5"),
        ("resnest", {"width": 18}, "multiple of 4"),
        ("swin", {"image": 48}, "multiple of 32"),
        ("llama", {"groups": 3}, "multiple of 3"),
        ("hrnet", {"image": 40}, "multiple of 16"),
        ("yolo", {"image": 48}, "multiple of 32"),
        ("crnn", {"height": 20}, "multiple of 8"),
        ("nas", {"nodes": 10}, "too few"),
        ("chain", {"nodes": 0}, "nodes: 0 is no size"),
    ],
)
def test_sizes_that_cannot_be_are_refused(name, sizes, message):
    with pytest.raises(UsageError, match=message):
        build(name, **sizes)


def operators(model: Model) -> set[str]:
    return {node.op_type for node in model.graph}
