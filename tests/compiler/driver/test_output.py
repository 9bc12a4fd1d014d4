"""The output folder: never half-written, never somebody else's."""

from pathlib import Path

import pytest

from graphpress.driver.output import check_folder, default_folder, staged
from graphpress.errors import UsageError


@pytest.fixture
def model(tmp_path):
    file = tmp_path / "in" / "model.onnx"
    file.parent.mkdir()
    file.write_bytes(b"model")
    return file


@pytest.fixture
def full(tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "old").write_text("old")
    return folder


def test_the_default_is_beside_the_working_directory():
    assert default_folder(Path("/models/net.v2.onnx"), "cpu") == Path("net.v2-cpu")


def test_new_and_empty_folders_may_be_written(tmp_path, model):
    check_folder(tmp_path / "new" / "deep", False, [model])
    (tmp_path / "empty").mkdir()
    check_folder(tmp_path / "empty", False, [model])


def test_a_full_folder_needs_force(full, model):
    with pytest.raises(UsageError, match="not empty") as raised:
        check_folder(full, False, [model])
    assert "--force" in raised.value.fix
    check_folder(full, True, [model])


def test_a_file_is_no_folder(model):
    with pytest.raises(UsageError, match="is a file"):
        check_folder(model, True, [model])


def test_a_folder_with_an_input_is_never_replaced(model, full):
    data = full / "data.yaml"
    data.write_text("")
    for folder, name in ((model.parent, "model.onnx"), (full, "data.yaml")):
        with pytest.raises(UsageError, match=f"holds {name}"):
            check_folder(folder, True, [model, data])


def test_nor_is_the_working_directory(full, model, monkeypatch):
    (full / "below").mkdir()
    for place in (full, full / "below"):
        monkeypatch.chdir(place)
        with pytest.raises(UsageError, match="working directory"):
            check_folder(full, True, [model])


def test_what_was_staged_is_there_in_the_end(full):
    with staged(full) as aside:
        (aside / "new").write_text("new")
        assert (full / "old").exists()
    assert [file.name for file in full.iterdir()] == ["new"]
    assert [folder.name for folder in full.parent.iterdir()] == ["out"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_failure_leaves_everything_as_it_was(full, error):
    def work():
        with staged(full) as aside:
            (aside / "new").write_text("new")
            raise error

    with pytest.raises(error):
        work()
    assert [file.name for file in full.iterdir()] == ["old"]
    assert [folder.name for folder in full.parent.iterdir()] == ["out"]


def test_a_link_to_a_folder_stays_a_link(full):
    link = full.parent / "link"
    link.symlink_to(full)
    with staged(link) as aside:
        (aside / "new").write_text("new")
    assert link.is_symlink()
    assert [file.name for file in full.iterdir()] == ["new"]


def test_a_place_that_cannot_be_written_is_said(model):
    with pytest.raises(UsageError, match="cannot be written"), staged(model / "below"):
        pass
