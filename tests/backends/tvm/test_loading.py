"""The library as its user has it in Python: threads, batches, instances, and files that are not what they should be."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from kernel_checks import harness
from kernel_checks.graphs import graph
from kernel_checks.harness import guarded

from graphpress.analysis.shapes import infer_shapes
from graphpress.backends.tvm.artifact import LibraryOptions, write_library
from graphpress.backends.tvm.lowering.lower import lower
from graphpress.errors import BackendError, GraphpressError, ModelError, ResourceError, UsageError
from graphpress.manager.prepare import prepare
from graphpress.models import build
from graphpress.runtime import Session, load

SHAPE = (1, 3, 16, 16)
PRODUCT = graph("(float[1,8] x) => (float[1,4] y) {y = MatMul(x, w)}", w=np.ones((8, 4), np.float32))

pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")


@pytest.fixture(scope="module")
def network():
    model = build("resnet", depth=8, stem="cifar", width=8, image=16, batch_norm=False)
    prepare(model, {"input": SHAPE})
    infer_shapes(model)
    return model


@pytest.fixture(scope="module")
def compiled(network, tmp_path_factory, here):
    folder = tmp_path_factory.mktemp("library")
    write_library(lower(network, here[-1]), here[-1], folder, options=LibraryOptions("network"))
    return folder


@pytest.fixture
def copy(compiled, tmp_path):
    """A copy to damage."""
    shutil.copytree(compiled, tmp_path / "copy")
    return tmp_path / "copy"


def feed(images: int, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {"input": rng.standard_normal((images, *SHAPE[1:])).astype(np.float32)}


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("images", [1, 3])
def test_threads_and_batches_change_nothing(compiled, network, threads, images):
    data = feed(images)
    expected = np.concatenate([Session(network).run({"input": row[None]})["logits"] for row in data["input"]])
    with load(compiled, threads=threads, max_batch=4) as model:
        for _ in range(5):
            np.testing.assert_allclose(model.run(data)["logits"], expected, rtol=1e-4, atol=1e-5)


def test_instances_run_side_by_side(compiled):
    data = [feed(2, seed) for seed in range(8)]
    alone = [load(compiled, threads=1).run(each)["logits"] for each in data]
    models = [load(compiled, threads=8, max_batch=2) for _ in data]

    def often(number: int) -> list[np.ndarray]:
        return [models[number].run(data[number])["logits"] for _ in range(50)]

    with ThreadPoolExecutor(len(data)) as pool:
        for number, results in enumerate(pool.map(often, range(len(data)))):
            for result in results:
                np.testing.assert_array_equal(result, alone[number])


def test_calls_of_one_model_wait_for_each_other(compiled):
    with load(compiled, threads=2) as model, ThreadPoolExecutor(4) as pool:
        expected = model.run(feed(2))["logits"]
        for result in pool.map(lambda _: model.run(feed(2))["logits"], range(40)):
            np.testing.assert_array_equal(result, expected)


def test_a_larger_batch_makes_room_for_itself(compiled):
    with load(compiled, threads=2) as model:
        first = model.run(feed(1))["logits"]
        np.testing.assert_array_equal(
            model.run({"input": np.repeat(feed(1)["input"], 7, 0)})["logits"], first.repeat(7, 0)
        )
        np.testing.assert_array_equal(model.run(feed(1))["logits"], first)


def test_inputs_need_not_lie_in_order(compiled):
    data = feed(2)["input"]
    with load(compiled, threads=1) as model:
        expected = model.run({"input": data})["logits"]
        shifted = np.zeros(data.size + 1, np.float32)[1:].reshape(data.shape)
        shifted[:] = data
        for other in (np.asfortranarray(data), data[::-1][::-1], shifted):
            np.testing.assert_array_equal(model.run({"input": other})["logits"], expected)


def test_outputs_are_written_where_they_are_wanted(compiled):
    out = {"logits": np.empty((2, 10), np.float32)}
    with load(compiled, threads=1) as model:
        expected = model.run(feed(2))["logits"]
        assert model.run(feed(2), out)["logits"] is out["logits"]
        np.testing.assert_array_equal(out["logits"], expected)
        for wrong in (np.empty((2, 20), np.float32)[:, ::2], np.empty((3, 10), np.float32), np.empty((2, 10))):
            with pytest.raises(UsageError, match="output 'logits'"):
                model.run(feed(2), {"logits": wrong})


@pytest.mark.parametrize("left_behind", [np.nan, np.inf, -1e30])
def test_a_run_does_not_see_what_another_left_behind(compiled, left_behind):
    with load(compiled, threads=2, max_batch=3) as model:
        expected = model.run(feed(3))["logits"]
        model.run({"input": np.full_like(feed(3)["input"], left_behind)})
        np.testing.assert_array_equal(model.run(feed(3))["logits"], expected)


def rebuilt(folder: Path, *flags: str) -> None:
    """Build the library anew from its sources."""
    objects = [file.name for file in folder.glob("*.o") if file.name != "model.o"]
    command = ["cc", "-std=gnu11", "-O1", "-fPIC", "-shared", "-pthread", *flags, "model.c", *objects]
    subprocess.run([*command, "-o", "libmodel.so"], cwd=folder, check=True)
    facts = json.loads((folder / "model.json").read_text())
    facts["library_sha256"] = hashlib.sha256((folder / "libmodel.so").read_bytes()).hexdigest()
    (folder / "model.json").write_text(json.dumps(facts))


@pytest.mark.parametrize("at_end", [False, True])
def test_nothing_is_touched_that_is_not_the_models(copy, at_end):
    """Neither around its own memory nor around the caller's, to the byte."""
    rebuilt(copy, "-include", str(Path(harness.__file__).with_name("guarded_memory.h")))
    with load(copy, threads=2, max_batch=3) as model, load(copy, threads=1) as other:
        for images in (1, 3):
            data = {"input": guarded(feed(images)["input"], 0, at_end=at_end).reshape(images, *SHAPE[1:])}
            out = {"logits": guarded(np.zeros((images, 10), np.float32), 0, at_end=at_end).reshape(images, 10)}
            np.testing.assert_array_equal(model.run(data, out)["logits"], other.run(feed(images))["logits"])


def test_vectors_that_reach_over_an_input_do_not_reach_others(tmp_path, newest):
    left, right = (np.random.default_rng(0).standard_normal(shape).astype(np.float32) for shape in ((3, 4), (4, 5)))
    write_library(
        lower(graph("(float[3,4] a, float[4,5] b) => (float[3,5] y) {y = MatMul(a, b)}"), newest), newest, tmp_path
    )
    with load(tmp_path, threads=1) as model:
        for slack in range(0, 80, 4):
            data = {"a": left, "b": guarded(np.append(right, np.zeros(slack // 4, np.float32)), 0, at_end=True)}
            data["b"] = data["b"][:20].reshape(4, 5)
            np.testing.assert_allclose(model.run(data)["y"], left @ right, rtol=1e-5)


def test_weights_inside_of_the_library_are_checked_too(tmp_path, newest):
    intact, damaged = tmp_path / "intact", tmp_path / "damaged"
    intact.mkdir()
    write_library(lower(PRODUCT, newest), newest, intact, options=LibraryOptions(batched=False, weights_inside=True))
    weights = (intact / "weights.bin").read_bytes()
    (intact / "weights.bin").unlink()
    shutil.copytree(intact, damaged)
    with load(intact, threads=1) as model:
        np.testing.assert_array_equal(model.run({"x": np.ones((1, 8), np.float32)})["y"], np.full((1, 4), 8))
    library = (damaged / "libmodel.so").read_bytes().replace(weights, weights[:-1] + b"x")
    (damaged / "libmodel.so").write_bytes(library)
    facts = json.loads((damaged / "model.json").read_text())
    facts["library_sha256"] = hashlib.sha256(library).hexdigest()
    (damaged / "model.json").write_text(json.dumps(facts))
    with pytest.raises(ModelError, match=r"libmodel\.so: the weights are damaged"):
        load(damaged)


def test_it_says_what_it_is(compiled):
    with load(compiled) as model:
        assert (model.name, model.inputs[0].name, model.outputs[0].shape) == ("network", "input", (1, 10))
        seconds = model.profile(feed(1))
        assert len(seconds) == len(model.description.steps)
        assert min(seconds) >= 0
        assert max(seconds) > 0


@pytest.mark.parametrize(
    ("data", "what"),
    [
        ({"image": feed(1)["input"]}, "no input 'image'"),
        ({}, "'input' is missing"),
        ({"input": feed(1)["input"].astype(np.float64)}, "is float64, not float32"),
        ({"input": feed(1)["input"].astype(">f4")}, "is >f4, not float32"),
        ({"input": feed(1)["input"][:, :2]}, r"has the shape \[1, 2, 16, 16\], not \[batch, 3, 16, 16\]"),
        ({"input": feed(1)["input"][0]}, r"has the shape \[3, 16, 16\]"),
        ({"input": feed(0)["input"]}, r"has the shape \[0, 3, 16, 16\]"),
        ({"input": np.float32(1)}, r"has the shape \[\]"),
    ],
)
def test_inputs_that_are_not_the_models_are_refused(compiled, data, what):
    with load(compiled, threads=1) as model, pytest.raises(UsageError, match=what):
        model.run(data)


@pytest.mark.parametrize("numbers", [{"threads": 0}, {"threads": 300}, {"max_batch": 0}, {"max_batch": 1 << 40}])
def test_numbers_out_of_range_are_refused(compiled, numbers):
    with pytest.raises(UsageError, match="out of range"):
        load(compiled, **{"threads": 1, **numbers})


def test_a_model_that_was_closed_says_so(compiled):
    model = load(compiled, threads=2)
    model.close()
    model.close()
    with pytest.raises(UsageError, match="was closed"):
        model.run(feed(1))


def test_a_fixed_batch_stays_what_it_is(tmp_path, newest):
    write_library(lower(PRODUCT, newest), newest, tmp_path, options=LibraryOptions(batched=False))
    with load(tmp_path, threads=1) as model:
        assert model.run({"x": np.ones((1, 8), np.float32)})["y"].tolist() == [[8, 8, 8, 8]]
        with pytest.raises(UsageError, match=r"not \[1, 8\]"):
            model.run({"x": np.ones((2, 8), np.float32)})


def flipped(data: bytes, place: int = 100) -> bytes:
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


@pytest.mark.parametrize(
    ("name", "damage", "what"),
    [
        ("weights.bin", None, "weights.bin: is missing"),
        ("weights.bin", lambda data: data[:-64], "weights.bin: the weights are damaged"),
        ("weights.bin", lambda data: data + bytes(64), "weights.bin: the weights are damaged"),
        ("weights.bin", flipped, "weights.bin: the weights are damaged"),
        ("libmodel.so", None, "libmodel.so: is missing"),
        ("libmodel.so", lambda data: b"", "libmodel.so: is damaged"),
        ("libmodel.so", lambda data: data[: len(data) // 2], "libmodel.so: is damaged"),
        ("model.json", None, "is no compiled model"),
        ("model.json", lambda data: data[:-20], "model.json: cannot be read"),
        ("model.json", lambda data: b"[]", "model.json: cannot be read"),
        (
            "model.json",
            lambda data: data.replace(b'"abi": 1', b'"abi": 7'),
            "has version 7 of the interface",
        ),
        ("model.json", lambda data: data.replace(b"16,", b"17,"), "has other inputs than its description"),
        ("model.json", lambda data: data.replace(b'"network"', b'"another"'), "libmodel.so: cannot be loaded"),
    ],
)
def test_files_that_are_damaged_are_named(copy, name, damage, what):
    file = copy / name
    data = file.read_bytes()
    file.unlink()
    if damage is not None:
        file.write_bytes(damage(data))
    with pytest.raises(ModelError, match=what):
        load(copy, threads=1)


def test_a_library_for_another_architecture_is_not_loaded(copy):
    facts = json.loads((copy / "model.json").read_text())
    facts["isa"]["architecture"] = "riscv64"
    (copy / "model.json").write_text(json.dumps(facts))
    with pytest.raises(BackendError, match="compiled for riscv64; this processor is"):
        load(copy)


def test_a_processor_that_lacks_instructions_is_told_which(tmp_path, newest, monkeypatch):
    lacking, known = replace(newest, name="future", needs=(*newest.needs, "avx1024", "fast_thoughts")), newest.target
    monkeypatch.setattr(type(lacking), "target", known)
    write_library(lower(PRODUCT, newest), lacking, tmp_path)
    with pytest.raises(BackendError, match="compiled for future; this processor lacks avx1024, fast_thoughts"):
        load(tmp_path)


LIMITED = """
import resource, sys
import numpy as np
from graphpress.runtime import load
room, threads, batch = map(int, sys.argv[2:])
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + room, used + room))
load(sys.argv[1], threads=threads, max_batch=batch)
"""


@pytest.mark.parametrize(("threads", "batch", "what"), [(1, 100_000, "memory ran out"), (200, 1, "could be started")])
def test_memory_or_threads_that_run_out_are_a_fault_of_the_machine(compiled, threads, batch, what):
    arguments = [str(number) for number in (64 << 20, threads, batch)]
    done = subprocess.run([sys.executable, "-c", LIMITED, compiled, *arguments], capture_output=True, text=True)
    assert "ResourceError" in done.stderr
    assert what in done.stderr


LEAN = """
import sys
for name in ("tvm", "onnx", "onnx_ir", "onnxruntime"):
    sys.modules[name] = None
import graphpress.runtime
import numpy as np
with graphpress.runtime.load(sys.argv[1]) as model:
    print(model.run({"input": np.zeros((2, 3, 16, 16), np.float32)})["logits"].shape)
"""


def test_nothing_but_numpy_is_needed(compiled):
    done = subprocess.run([sys.executable, "-c", LEAN, compiled], capture_output=True, text=True)
    assert done.stdout == "(2, 10)\n", done.stderr


def test_memory_is_given_back(compiled):
    def mapped() -> int:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[0]) * resource.getpagesize()

    def use() -> None:
        for _ in range(10):
            load(compiled, threads=4, max_batch=64).run(feed(1))

    use()
    before = mapped()
    use()
    assert mapped() - before < 16 << 20


def test_a_forked_process_computes_the_same(compiled):
    model = load(compiled, threads=4)
    expected = model.run(feed(2))["logits"]
    child = os.fork()
    if not child:
        code = 1
        try:
            code = not np.array_equal(model.run(feed(2))["logits"], expected)
            model.close()
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    np.testing.assert_array_equal(model.run(feed(2))["logits"], expected)


def test_errors_are_ours(compiled, tmp_path):
    (tmp_path / "model.json").mkdir()
    with pytest.raises(GraphpressError):
        load(tmp_path)
    with pytest.raises(ResourceError if os.geteuid() else ModelError):
        load("/proc/self/absent")
