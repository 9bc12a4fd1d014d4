"""Whatever a file declares of its shapes: what is delivered has the input model's interface and, lossless, its numbers.

Random small models whose declarations are missing, symbolic or wrong go through clean-up, pruning and int8.
"""

import tempfile
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

import graphpress
from graphpress.errors import ModelError
from graphpress.ir import load
from graphpress.manager.gate import Comparison
from graphpress.manager.interface import computed_fault
from graphpress.manager.verification import first_difference
from graphpress.runtime import Session

ROWS = np.random.default_rng(1).normal(size=(12, 6)).astype(np.float32)
RECIPES = {"cleanup": {"recipe": "cleanup"}, "prune": {"passes": "prune"}, "int8": {"recipe": "int8"}}

SHAPE = "shape"
"""Names of values that are no floats begin so."""

layers = st.lists(
    st.sampled_from(["matmul", "gemm", "relu", "identity", "add", "residual", "reshape"]), min_size=1, max_size=5
)
sizes = st.integers(2, 7)
declared = st.sampled_from(["true", "none", "symbolic", "absent", "partly"])
declared_at_will = declared | st.sampled_from(["wrong size", "wrong rank"])


@st.composite
def models(draw):
    """A chain of layers, of which each value and each constant declares something, or nothing."""
    random = np.random.default_rng(draw(st.integers(0, 99)))
    nodes, constants, shapes = [], {}, {}
    value, width = "x", ROWS.shape[1]

    def made(op_type, *inputs, size, **attributes):
        name = f"{'v' if op_type != 'Shape' else SHAPE}{len(nodes)}"
        nodes.append(helper.make_node(op_type, inputs, [name], f"n{len(nodes)}", **attributes))
        shapes[name] = ["n", size]
        return name

    def constant(array):
        name = f"c{len(constants)}"
        constants[name] = np.asarray(array)
        return name

    for kind in [*draw(layers), "matmul"]:
        size = draw(sizes) if kind in ("matmul", "gemm") else width
        weight = random.normal(size=(width, size)).astype(np.float32)
        if kind == "matmul":
            value = made("MatMul", value, constant(weight), size=size)
        elif kind == "gemm":
            value = made("Gemm", value, constant(weight), constant(weight[0]), size=size)
        elif kind == "add":
            value = made("Add", value, constant(weight[0]), size=size)
        elif kind == "residual":
            value = made("Add", value, made("MatMul", value, constant(weight), size=size), size=size)
        elif kind == "reshape":
            shape = made("Shape", value, size=2)
            shapes[shape] = [2]
            value = made("Reshape", made("Relu", value, size=size), shape, size=size)
        else:
            value = made(kind.title(), value, size=size)
        width = size
    public = [value, *draw(st.sets(st.sampled_from([node.output[0] for node in nodes]), max_size=1).map(sorted))]
    return _proto(nodes, constants, shapes, list(dict.fromkeys(public)), draw)


def _proto(nodes, constants, shapes, public, draw):
    info = {name: _declaration(name, dims, draw(declared_at_will)) for name, dims in shapes.items()}
    stated = {name: _declaration(name, list(array.shape), draw(declared)) for name, array in constants.items()}
    graph = helper.make_graph(
        nodes,
        "any",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", ROWS.shape[1]])],
        [info[name] or _declaration(name, shapes[name], "none") for name in public],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
        value_info=[one for name, one in (info | stated).items() if one is not None and name not in public],
    )
    return helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 17)])


def _declaration(name, dims, how):
    """What a file says of a value with these dimensions; None for nothing."""
    if how == "absent":
        return None
    said = {
        "true": dims,
        "none": None,
        "symbolic": [f"s{axis}" for axis in range(len(dims))],
        "wrong size": [*dims[:-1], dims[-1] + 1],
        "wrong rank": [*dims, 1],
        "partly": ["batch", *dims[1:]] if len(dims) > 1 else dims,
    }[how]
    kind = TensorProto.INT64 if name.startswith(SHAPE) else TensorProto.FLOAT
    return helper.make_tensor_value_info(name, kind, said)


@pytest.fixture(scope="module", autouse=True)
def untimed():
    """Nothing here is about speed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("graphpress.driver.choice.compare", lambda job, artifact, **_: Comparison(None, 1, 1))
        patch.setattr("graphpress.driver.delivery.undisturbed_latency", lambda call: 0.001)
        yield


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
@settings(max_examples=20, derandomize=True)
@given(model=models())
def test_the_face_stays_and_without_loss_the_numbers(recipe, model):
    with tempfile.TemporaryDirectory() as folder:
        file, output = Path(folder) / "m.onnx", Path(folder) / "out"
        onnx.save(model, file)
        try:
            result = graphpress.optimize(file, data={"x": ROWS}, max_drop=None, output=output, strict=True, **recipe)
        except ModelError:
            with pytest.raises(ModelError):  # it is no model to ONNX Runtime either
                Session(file)
            return
        assert result.report.dropped_for_fault == ()
        before, after = (Session(path)({"x": ROWS}) for path in (file, output / "model.onnx"))
        interfaces = [[(name, array.dtype, array.shape) for name, array in side.items()] for side in (before, after)]
        assert interfaces[0] == interfaces[1]
        if recipe == RECIPES["cleanup"]:
            assert first_difference(before, after) is None
        if result.status == "delivered":
            assert computed_fault(after, load(output / "model.onnx")) is None
