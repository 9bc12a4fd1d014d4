"""Which files data comes from."""

import numpy as np
import pytest

from graphpress.data import data_files


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a.npz", "b.npz", "labels.npy", "maker.py", "tokens.py", "package/__init__.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "images").mkdir()
    return tmp_path


def names(place, spec):
    return [path.resolve().relative_to(place).as_posix() for path in data_files(spec)]


def test_a_source_by_itself(place):
    assert names(place, "a.npz") == ["a.npz"]
    assert names(place, place / "images") == ["images"]
    assert names(place, "missing.npz") == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("evaluation: {source: a.npz}\ncalibration: {source: b.npz}", ["b.npz", "a.npz"]),
        ("evaluation: {source: images, labels: {source: labels.npy}}", ["images", "labels.npy"]),
        ("selection: {source: b.npz, labels: y}\nevaluation: {source: a.npz}", ["a.npz", "b.npz"]),
        ("evaluation: {source: 'maker:make'}", ["maker.py"]),
        ("evaluation: {source: 'package:make'}", ["package/__init__.py"]),
        ("evaluation: {source: a.npz}\npreprocess: {x: {function: 'tokens:split'}}", ["a.npz", "tokens.py"]),
        ("evaluation: {source: missing.npz}", []),
        ("evaluation: {sauce: a.npz}", []),
        ("evaluation: [", []),
    ],
)
def test_a_data_file_and_what_it_names(place, text, expected):
    (place / "deep").mkdir()
    data = place / "data.yaml"
    data.write_text(text)
    assert names(place, data) == ["data.yaml", *expected]


def test_a_mapping_and_what_it_names(place):
    assert names(place, {"evaluation": {"source": "a.npz"}, "calibration": np.zeros(3)}) == ["a.npz"]


@pytest.mark.parametrize("spec", [None, np.zeros(3), {"x": np.zeros(3)}, {}, [], (np.zeros(3), np.zeros(3)), iter([])])
def test_objects_come_from_no_file(place, spec):
    assert names(place, spec) == []
