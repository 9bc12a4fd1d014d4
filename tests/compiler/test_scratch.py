"""Scratch folders: those of runs that live are never touched, those of killed ones vanish."""

import os
import signal
import time
from pathlib import Path

import pytest

from graphpress import scratch
from graphpress.scratch import OWNER, owner, reclaim, remove, scratch_beside, scratch_folder


@pytest.fixture
def left(tmp_path):
    """The folder of a process that was killed while it worked in it."""
    read, write = os.pipe()
    child = os.fork()
    if not child:
        with scratch_folder(tmp_path) as folder:
            (folder / "deep").mkdir()
            (folder / "deep" / "weights").write_text("half")
            os.write(write, str(folder).encode())
            time.sleep(60)
            os._exit(0)
    folder = Path(os.read(read, 4096).decode())
    os.close(read)
    os.close(write)
    return folder, lambda: (os.kill(child, signal.SIGKILL), os.waitpid(child, 0))


def test_a_folder_lives_as_long_as_its_block(tmp_path):
    with scratch_folder(tmp_path) as folder:
        (folder / "file").write_text("text")
        assert owner(folder) == f"process {os.getpid()}"
    assert not list(tmp_path.iterdir())


def test_it_goes_when_the_block_fails(tmp_path):
    with pytest.raises(KeyboardInterrupt), scratch_folder(tmp_path):
        raise KeyboardInterrupt
    assert not list(tmp_path.iterdir())


def test_what_a_killed_process_left_is_removed_and_what_a_live_one_has_is_not(tmp_path, left):
    folder, kill = left
    reclaim(tmp_path)
    assert (folder / "deep" / "weights").exists()
    kill()
    reclaim(tmp_path, "another-")
    assert folder.exists()
    reclaim(tmp_path)
    assert not list(tmp_path.iterdir())


def test_folders_of_that_name_that_are_not_ours_stay(tmp_path):
    for name in ("graphpress-scratch-examples", "elsewhere"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "mine").write_text("mine")
    (tmp_path / "elsewhere" / OWNER).write_text("1")
    (tmp_path / "graphpress-scratch-link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "graphpress-scratch-file").write_text("mine")
    (tmp_path / "graphpress-scratch-empty").mkdir()
    (tmp_path / "graphpress-12345678").mkdir()  # as other programs, and earlier versions, name theirs
    reclaim(tmp_path)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == [
        "elsewhere", "graphpress-12345678",
        "graphpress-scratch-examples", "graphpress-scratch-file", "graphpress-scratch-link",
    ]  # fmt: skip
    assert (tmp_path / "elsewhere" / "mine").exists()


def test_without_locks_nothing_is_taken_for_left_behind(tmp_path, left, monkeypatch):
    folder, kill = left
    kill()
    monkeypatch.setattr(scratch, "fcntl", None)
    with scratch_folder(tmp_path) as own:
        reclaim(tmp_path)
        assert own.exists()
    assert folder.exists()


def test_names_are_no_patterns(tmp_path):
    with scratch_folder(tmp_path, ".m[1].onnx-") as folder:
        (folder / OWNER).rename(folder / "spare")
        (folder / OWNER).write_text("1")  # as if its process were dead
        reclaim(tmp_path, ".m[1].onnx-")
        assert not folder.exists()


def test_removing_leaves_links_targets_alone(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").write_text("mine")
    with scratch_folder(tmp_path) as folder:
        (folder / "link").symlink_to(tmp_path / "mine")
        remove(folder)
        assert not folder.exists()
    assert (tmp_path / "mine" / "file").exists()


def test_beside_a_file_only_what_was_left_of_that_file_goes(tmp_path):
    for name in (".net.onnx.scratch-12345678", ".other.onnx.scratch-12345678", ".net.onnx.scratch-mine"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "half").touch()
        if not name.endswith("mine"):
            (tmp_path / name / OWNER).write_text("1")  # as if its process were dead
    with scratch_beside(tmp_path / "net.onnx") as folder:
        assert folder.parent == tmp_path
    assert sorted(entry.name for entry in tmp_path.iterdir()) == [
        ".net.onnx.scratch-mine",
        ".other.onnx.scratch-12345678",
    ]
