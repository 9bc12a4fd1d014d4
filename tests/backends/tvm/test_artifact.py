"""The library as its user has it: threads, batches, instances, and files that are not what they should be."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

pytest.importorskip("tvm", reason="needs graphpress[tvm]")

from graphpress.analysis.shapes import infer_shapes
from graphpress.backends.tvm.artifact import Library, write_library
from graphpress.backends.tvm.lowering.lower import lower
from graphpress.errors import ModelError
from graphpress.manager.prepare import prepare
from graphpress.models import build
from graphpress.runtime import Session

SHAPE = (1, 3, 16, 16)

pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")


@pytest.fixture(scope="module")
def network():
    model = build("resnet", depth=8, stem="cifar", width=8, image=16, batch_norm=False)
    prepare(model, {"input": SHAPE})
    infer_shapes(model)
    return model


@pytest.fixture(scope="module")
def compiled(network, tmp_path_factory, here):
    program = lower(network, here[-1])
    folder = tmp_path_factory.mktemp("library")
    write_library(program, here[-1], folder)
    return program, folder


def load(compiled, folder=None, **options) -> Library:
    program, where = compiled
    return Library(folder or where, program.inputs, program.outputs, **options)


def feed(images: int, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {"input": rng.standard_normal((images, *SHAPE[1:])).astype(np.float32)}


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("images", [1, 3])
def test_threads_and_batches_change_nothing(compiled, network, threads, images):
    data = feed(images)
    expected = np.concatenate([Session(network).run({"input": row[None]})["logits"] for row in data["input"]])
    library = load(compiled, threads=threads, images=4)
    for _ in range(5):
        np.testing.assert_allclose(library.run(data)["logits"], expected, rtol=1e-4, atol=1e-5)


def test_instances_run_side_by_side(compiled):
    data = [feed(2, seed) for seed in range(8)]
    alone = [load(compiled, images=2).run(each)["logits"] for each in data]
    libraries = [load(compiled, threads=2, images=2) for _ in data]

    def often(number: int) -> list[np.ndarray]:
        return [libraries[number].run(data[number])["logits"] for _ in range(20)]

    with ThreadPoolExecutor(len(data)) as pool:
        for number, results in enumerate(pool.map(often, range(len(data)))):
            for result in results:
                np.testing.assert_array_equal(result, alone[number])


def test_more_images_than_there_is_room_for_are_refused(compiled):
    with pytest.raises(ModelError, match="3 images"):
        load(compiled, images=2).run(feed(3))


@pytest.mark.parametrize("damage", ["truncated", "changed", "missing"])
def test_weights_of_another_library_are_refused(compiled, tmp_path, damage):
    folder = tmp_path / "copy"
    shutil.copytree(compiled[1], folder)
    weights = folder / "weights.bin"
    data = bytearray(weights.read_bytes())
    if damage == "missing":
        weights.unlink()
    else:
        data[100] ^= 1
        weights.write_bytes(data[:-64] if damage == "truncated" else data)
    with pytest.raises(ModelError, match="cannot be loaded"):
        load(compiled, folder)
