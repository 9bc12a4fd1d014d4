"""What a run reads stays what it was, or nothing is delivered."""

import json
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image

import graphpress
from graphpress.driver import inputs
from graphpress.errors import DataError, ModelError
from graphpress.ir import save
from graphpress.manager import manifest
from graphpress.manager.manifest import file_record
from graphpress.models import build

CHANGED = "was changed while the run was reading it"


@pytest.fixture
def place(tmp_path) -> Path:
    """A model with external data, and data."""
    save(build("resnet", depth=8, stem="cifar", width=4, image=8, classes=4), tmp_path / "whole.onnx")
    proto = onnx.load(tmp_path / "whole.onnx")
    onnx.save(proto, tmp_path / "net.onnx", save_as_external_data=True, location="net.bin", size_threshold=64)
    np.savez(tmp_path / "data.npz", input=np.random.default_rng(0).normal(size=(8, 3, 8, 8)).astype(np.float32))
    return tmp_path


def optimize(place: Path, model: str = "net.onnx", meanwhile: Callable[[Path], None] = lambda place: None, **options):
    """A run in whose middle something happens, once."""
    todo = [meanwhile]
    return graphpress.optimize(
        place / model,
        **{"passes": "cleanup", "output": place / "out", "threads": 1} | options,
        hooks={"after_pass": lambda *_: todo and todo.pop()(place)},
    )


def replaced(name: str) -> Callable[[Path], None]:
    def change(place: Path) -> None:
        (place / "new").write_bytes((place / name).read_bytes()[::-1])
        (place / "new").replace(place / name)

    return change


def rewritten(name: str) -> Callable[[Path], None]:
    """In place, to the same size and the same date."""

    def change(place: Path) -> None:
        before = (place / name).stat()
        (place / name).write_bytes((place / name).read_bytes()[::-1])
        os.utime(place / name, ns=(before.st_atime_ns, before.st_mtime_ns))

    return change


def removed(name: str) -> Callable[[Path], None]:
    return lambda place: (place / name).unlink()


def cut(name: str) -> Callable[[Path], None]:
    return lambda place: os.truncate(place / name, (place / name).stat().st_size // 2)


def touched(name: str) -> Callable[[Path], None]:
    return lambda place: os.utime(place / name)


def copied(name: str) -> Callable[[Path], None]:
    def change(place: Path) -> None:
        shutil.copy(place / name, place / "copy")
        (place / "copy").replace(place / name)

    return change


@pytest.mark.parametrize("change", [replaced, rewritten, removed])
@pytest.mark.parametrize("name", ["net.onnx", "net.bin"])
def test_a_model_that_changes_is_refused(place, name, change):
    with pytest.raises(ModelError, match=CHANGED) as raised:
        optimize(place, meanwhile=change(name))
    assert raised.value.where == str(place / name)
    assert not (place / "out").exists()


def test_a_model_that_is_cut_is_refused(place):
    with pytest.raises(ModelError, match=CHANGED):
        optimize(place, "whole.onnx", cut("whole.onnx"))
    assert not (place / "out").exists()


@pytest.mark.parametrize("passes", ["cleanup", "fuse,cleanup"])
def test_mapped_weights_that_are_cut_are_refused(place, passes):
    """To read on would end the process."""
    with pytest.raises(ModelError, match=CHANGED):
        optimize(place, meanwhile=cut("net.bin"), passes=passes)


def test_nor_is_it_copied_where_the_original_is_kept(place):
    """Nothing applies, so that the run ends with a copy of the input model."""
    result = optimize(place, "whole.onnx", passes="eliminate_identity", output=place / "kept")
    assert result.status == "kept_original"
    with pytest.raises(ModelError, match=CHANGED):
        optimize(place, "whole.onnx", replaced("whole.onnx"), passes="eliminate_identity")


@pytest.mark.parametrize("change", [touched, copied])
@pytest.mark.parametrize("name", ["net.onnx", "net.bin"])
def test_the_same_content_is_no_change(place, name, change):
    result = optimize(place, meanwhile=change(name))
    recorded = json.loads((result.output / "manifest.json").read_text())["inputs"]
    assert {record["name"]: record["sha256"] for record in recorded}[name] == file_record(place / name).sha256


@pytest.mark.parametrize("name", ["net.onnx", "net.bin"])
def test_a_change_while_the_model_is_opened_is_seen(place, name, monkeypatch):
    """Between the reading that gives the digest and the one that gives the session."""

    def model_records(path, model):
        records = manifest.model_records(path, model)
        replaced(name)(place)
        return records

    monkeypatch.setattr(inputs, "model_records", model_records)
    with pytest.raises(ModelError):
        optimize(place)


def test_what_breaks_because_of_a_change_is_told_as_that(place):
    def break_it(place: Path) -> None:
        replaced("net.onnx")(place)
        raise DataError("broken")

    with pytest.raises(ModelError, match=CHANGED):
        optimize(place, meanwhile=break_it)
    with pytest.raises(DataError, match="broken"):
        optimize(place, "whole.onnx", break_it)


# -- data -------------------------------------------------------------------------------------------------------


@pytest.fixture
def images(place) -> Path:
    """A data file and the folder of images that it names."""
    (place / "images").mkdir()
    for number in range(4):
        pixels = np.random.default_rng(number).integers(0, 255, (8, 8, 3), np.uint8)
        Image.fromarray(pixels).save(place / "images" / f"{number}.png")
    (place / "data.yaml").write_text("evaluation: {source: images}\n")
    return place


def another_image(place: Path) -> None:
    shutil.copy(place / "images" / "0.png", place / "images" / "3.png")


@pytest.mark.parametrize("change", [another_image, removed("images/3.png"), cut("images/3.png")])
def test_images_that_change_are_refused(images, change):
    with pytest.raises(DataError, match=CHANGED) as raised:
        optimize(images, "whole.onnx", change, data=images / "data.yaml")
    assert raised.value.where == str(images / "images" / "3.png")
    assert not (images / "out").exists()


@pytest.mark.parametrize("change", [touched("images/3.png"), lambda place: (place / "images" / "new.txt").touch()])
def test_images_that_do_not_are_not(images, change):
    assert optimize(images, "whole.onnx", change, data=images / "data.yaml").output.exists()


def test_the_fingerprint_is_that_of_the_data_that_was_read(place):
    """A source may be held in memory, where a change does no harm, or be read again, where it does."""
    data = place / "data.npz"
    before = optimize(place, data=data, output=place / "before")
    after = None
    with suppress(DataError):
        after = optimize(place, data=data, meanwhile=replaced("data.npz"))
    prints = [json.loads((run.output / "manifest.json").read_text())["data"] for run in (before, after or before)]
    assert prints[0] == prints[1]
