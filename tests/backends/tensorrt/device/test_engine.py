"""The engine's runner: what it checks before the GPU is asked for anything, and its whole way over a proxy GPU."""

import ast
import inspect
import sys
from enum import Enum, IntEnum
from types import SimpleNamespace

import numpy as np
import pytest

from graphpress.backends.tensorrt.device import engine
from graphpress.backends.tensorrt.device.engine import (
    Driver,
    Engine,
    EngineError,
    Port,
    check_feed,
    dtype_of,
    import_tensorrt,
)
from graphpress.backends.tensorrt.toolchain import has_gpu

PORTS = [
    Port("x", True, np.dtype(np.float32), (-1, 3)),
    Port("ids", True, np.dtype(np.int64), (2,)),
    Port("y", False, np.dtype(np.float32), (-1, 3)),
]
FEED = {"x": np.zeros((4, 3), np.float32), "ids": np.zeros(2, np.int64)}


def test_stands_by_itself():
    """It is copied beside engines: nothing of this project, and nothing newer than Python 3.8."""
    source = inspect.getsource(engine)
    tree = ast.parse(source, feature_version=(3, 8))
    imported = {
        name.partition(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([node.module] if isinstance(node, ast.ImportFrom) else [one.name for one in node.names])
    }
    assert imported <= {*sys.stdlib_module_names, "numpy"}


def test_a_feed_that_fits_becomes_contiguous():
    turned = np.zeros((3, 4), np.float32).T
    checked = check_feed(PORTS, {**FEED, "x": turned})
    assert checked["x"].flags.c_contiguous
    assert checked["x"].shape == (4, 3)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"x": None}, "'x' is missing"),
        ({"z": np.zeros(1)}, "no input 'z': it has ids, x"),
        ({"x": np.zeros((4, 3))}, "'x' is float64, and the engine reads float32"),
        ({"x": np.zeros((4, 2), np.float32)}, r"'x' is \[4, 2\], and the engine reads \[-1, 3\]"),
        ({"ids": np.zeros((2, 1), np.int64)}, r"'ids' is \[2, 1\]"),
    ],
)
def test_a_feed_that_does_not_fit_is_refused(change, reason):
    feed = {name: array for name, array in {**FEED, **change}.items() if array is not None}
    with pytest.raises(EngineError, match=reason):
        check_feed(PORTS, feed)


def test_types_by_the_names_of_the_package(rtx):
    assert dtype_of(rtx.module.DataType.HALF, "x") == np.float16
    assert dtype_of(rtx.module.DataType.INT64, "x") == np.int64
    with pytest.raises(EngineError, match="BF16, which numpy does not have"):
        dtype_of(rtx.module.DataType.BF16, "x")


def test_a_missing_plan_is_named(tmp_path, rtx):
    with pytest.raises(EngineError, match=r"no\.plan cannot be read .*: build the engine first"):
        Engine(tmp_path / "no.plan", rtx.module)


@pytest.mark.parametrize(
    ("packages", "sentence"),
    [
        (("tensorrt", "tensorrt_rtx"), "none of tensorrt, tensorrt_rtx is installed: on a Jetson, apt install"),
        (("tensorrt",), "tensorrt is not installed: on a Jetson, apt install python3-libnvinfer"),
        (("tensorrt_rtx",), "tensorrt_rtx is not installed: pip install tensorrt-rtx"),
    ],
)
def test_without_a_package_it_says_what_to_install(monkeypatch, packages, sentence):
    for name in packages:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(EngineError, match=sentence):
        import_tensorrt(packages)


@pytest.mark.skipif(has_gpu(), reason="there is a GPU here")
def test_without_a_gpu_it_says_so(rtx):
    with pytest.raises(EngineError, match="no NVIDIA driver here"):
        Driver()
    with pytest.raises(EngineError, match="no NVIDIA driver here"):
        Engine(b"", rtx.module)


@pytest.mark.skipif(has_gpu(), reason="there is a GPU here")
def test_an_engine_that_does_not_load_is_refused_with_what_tensorrt_said(rtx, graph, compiled, tmp_path):
    net, plan = graph((1, 8)), tmp_path / "engine.plan"
    compiled(net.output(net.node("Relu", "x")), plan=plan)
    with pytest.raises(EngineError, match=r"cannot load this engine \(.+\): build it on this very device"):
        Engine(plan, rtx.module, Memory())


# -- a proxy GPU -------------------------------------------------------------------------------------------


class Memory:
    """Memory of a GPU that is none, with a clock that ticks at every mark."""

    stream = 7

    def __init__(self):
        self.blocks, self.freed, self.ticks, self.closed = {}, [], 0, False

    def allocate(self, size):
        address = 1 + max([0, *self.blocks, *self.freed])
        self.blocks[address] = bytearray(size)
        return address

    def free(self, pointer):
        self.freed.append(pointer)
        del self.blocks[pointer]

    def upload(self, pointer, array):
        self.blocks[pointer][: array.nbytes] = array.tobytes()

    def download(self, array, pointer):
        array[...] = np.frombuffer(self.blocks[pointer][: array.nbytes], array.dtype).reshape(array.shape)

    def wait(self):
        pass

    def mark(self):
        self.ticks += 1
        return self.ticks

    def milliseconds(self, start, stop):
        return float(stop - start)

    def close(self):
        self.closed = True


class DataType(Enum):
    FLOAT = 0


def doubling(memory, largest=8):
    """A TensorRT whose only engine doubles ``x`` of at most so many rows."""
    modes = IntEnum("TensorIOMode", "NONE INPUT OUTPUT", start=0)

    class Context:
        def __init__(self):
            self.shape, self.addresses, self.runs = (), {}, 0

        def set_input_shape(self, name, shape):
            self.shape = shape
            return shape[0] <= largest

        def get_tensor_shape(self, name):
            return self.shape

        def set_tensor_address(self, name, pointer):
            self.addresses[name] = pointer

        def execute_async_v3(self, stream):
            assert stream == memory.stream
            self.runs += 1
            read = np.frombuffer(memory.blocks[self.addresses["x"]], np.float32)[: np.prod(self.shape)]
            memory.blocks[self.addresses["y"]][: read.nbytes] = (2 * read).tobytes()
            return True

    def told(form):
        types = "Int8" if inspector.execution_context is context and context.shape == (4, 3) else "N/A"
        return f'{{"Layers": [{{"Name": "double", "Inputs": "{types}"}}, "plain"], "Bindings": []}}'

    context = Context()
    inspector = SimpleNamespace(execution_context=None, get_engine_information=told)
    engine = SimpleNamespace(
        num_io_tensors=2,
        get_tensor_name=["x", "y"].__getitem__,
        get_tensor_mode={"x": modes.INPUT, "y": modes.OUTPUT}.get,
        get_tensor_dtype=lambda name: DataType.FLOAT,
        get_tensor_shape=lambda name: (-1, 3),
        get_tensor_profile_shape=lambda name, index: [(1, 3), (4, 3), (largest, 3)],
        create_execution_context=lambda: context,
        create_engine_inspector=lambda: inspector,
    )
    return SimpleNamespace(
        context=context,
        TensorIOMode=modes,
        ILogger=type("ILogger", (), {"Severity": IntEnum("Severity", "INTERNAL_ERROR ERROR WARNING", start=0)}),
        Runtime=lambda logger: SimpleNamespace(deserialize_cuda_engine=lambda data: engine),
        LayerInformationFormat=SimpleNamespace(JSON=1),
    )


@pytest.fixture
def memory():
    return Memory()


@pytest.fixture
def trt(memory):
    return doubling(memory)


def test_runs_one_shape_after_another(trt, memory):
    with Engine(b"plan", trt, memory) as engine:
        for rows in (2, 5, 1):
            x = np.arange(3.0 * rows, dtype=np.float32).reshape(rows, 3)
            assert np.array_equal(engine.run({"x": x})["y"], 2 * x)
    assert memory.closed
    assert not memory.blocks


def test_memory_is_taken_again_only_where_it_is_too_small(trt, memory):
    engine = Engine(b"plan", trt, memory)
    for rows in (4, 2, 4):
        engine.run({"x": np.ones((rows, 3), np.float32)})
    assert len(memory.blocks) == 2
    assert memory.freed == []


def test_measures_each_run_without_the_first_ones(trt, memory):
    times = Engine(b"plan", trt, memory).measure({"x": np.ones((2, 3), np.float32)}, repeats=5, warmup=3)
    assert times == [1.0] * 5
    assert trt.context.runs == 8


def test_a_shape_outside_the_profile_is_refused(trt, memory):
    with pytest.raises(EngineError, match=r"no input 'x' of shape \[9, 3\].*: build it with a profile"):
        Engine(b"plan", trt, memory).run({"x": np.ones((9, 3), np.float32)})


def test_tells_its_layers_with_their_types_for_the_optimum_shapes(trt, memory):
    assert Engine(b"plan", trt, memory).layers() == [{"Name": "double", "Inputs": "Int8"}, {"Name": "plain"}]


@pytest.mark.needs_device
@pytest.mark.skipif(not has_gpu(), reason="needs_device: an NVIDIA GPU")
def test_computes_on_the_gpu_what_was_asked(rtx, graph, compiled, tmp_path):
    net, plan = graph((2, 8)), tmp_path / "engine.plan"
    compiled(net.output(net.node("Relu", "x", name="relu")), "", plan=plan)
    x = np.random.default_rng(0).normal(size=(2, 8)).astype(np.float16)
    with Engine(plan, rtx.module) as engine:
        (result,) = engine.run({"x": x}).values()
        assert np.array_equal(result, np.maximum(x, 0))
        assert len(engine.measure({"x": x}, repeats=3)) == 3
        assert engine.layers()
