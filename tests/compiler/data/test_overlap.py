"""Samples that calibration and evaluation have in common."""

import numpy as np
import pytest
from PIL import Image

from graphpress.data import load_dataset
from graphpress.data.overlap import shared_samples
from graphpress.runtime.session import InputSpec

IMAGES = np.random.default_rng(0).integers(0, 255, (12, 3, 8, 8)).astype(np.float32)
INPUTS = [InputSpec("x", np.dtype("float32"), ("n", 3, 8, 8))]


@pytest.mark.parametrize(
    ("first", "second", "count"), [((0, 6), (6, 12), 0), ((0, 6), (4, 12), 2), ((0, 12), (0, 12), 12)]
)
def test_records_of_arrays_are_known_by_their_content(tmp_path, first, second, count):
    parts = {}
    for name, (start, stop) in {"calibration": first, "evaluation": second}.items():
        np.savez(tmp_path / f"{name}.npz", x=IMAGES[start:stop])
        parts[name] = {"source": str(tmp_path / f"{name}.npz"), "inputs": {"x": "x"}}
    data = load_dataset(parts, INPUTS)
    assert shared_samples(data.calibration, data.evaluation) == count
    assert not data.borrowed


def test_images_are_known_by_their_files_whatever_they_are_called(tmp_path):
    for folder, numbers in {"calibration": range(6), "evaluation": range(4, 9)}.items():
        (tmp_path / folder).mkdir()
        for number in numbers:
            pixels = IMAGES[number].transpose(1, 2, 0).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / folder / f"{folder}-{number}.png")
    data = load_dataset({name: {"source": str(tmp_path / name)} for name in ("calibration", "evaluation")}, INPUTS)
    assert shared_samples(data.calibration, data.evaluation) == 2


def test_one_part_that_serves_for_both_is_told_as_that():
    data = load_dataset({"x": IMAGES}, INPUTS)
    assert data.borrowed
    assert "stand in for it" in data.notes[-1]
