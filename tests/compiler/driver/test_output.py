"""The output folder: never half-written, never somebody else's."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from graphpress.driver import output
from graphpress.driver.output import check_folder, claimed, default_folder
from graphpress.errors import UsageError
from graphpress.manager.manifest import Manifest, file_records, write_manifest
from graphpress.scratch import OWNER


def write_result(folder: Path, text: str) -> Path:
    """What a run leaves: a model and the manifest that lists it."""
    folder.mkdir(exist_ok=True)
    (folder / "model.onnx").write_text(text)
    manifest = Manifest(recipe="", target="cpu", backend="onnxruntime", outputs=file_records(folder.iterdir(), folder))
    write_manifest(manifest, folder / "manifest.json")
    return folder


def text_in(folder: Path) -> str:
    return (folder / "model.onnx").read_text()


def run(folder: Path, force: bool = True, inputs: Sequence[Path] = (), meanwhile: Callable = lambda: None) -> None:
    """What the driver does with its output folder, and what happens meanwhile."""
    check_folder(folder, force, inputs)
    with claimed(folder, force) as claim, claim.staged(inputs) as aside:
        write_result(aside, "new")
        meanwhile()


@pytest.fixture
def model(tmp_path):
    file = tmp_path / "in" / "model.onnx"
    file.parent.mkdir()
    file.write_bytes(b"model")
    return file


@pytest.fixture
def full(tmp_path):
    return write_result(tmp_path / "out", "old")


def beside(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.parent.iterdir() if entry.name != "in")


# -- before work starts -----------------------------------------------------------------------------------------


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


def test_nor_when_only_a_link_leads_there(model, full):
    link = full.parent / "data.npz"
    link.symlink_to(full / "model.onnx")
    with pytest.raises(UsageError, match=r"holds data\.npz"):
        check_folder(full, True, [model, link])


@pytest.mark.parametrize("cache", ["out", "out/cache"])
def test_a_new_folder_holds_no_cache_either(tmp_path, cache):
    with pytest.raises(UsageError, match="cannot be replaced"):
        check_folder(tmp_path / "out", False, [tmp_path / cache])


def test_nor_is_the_working_directory(full, model, monkeypatch):
    (full / "below").mkdir()
    for place in (full, full / "below"):
        monkeypatch.chdir(place)
        with pytest.raises(UsageError, match="working directory"):
            check_folder(full, True, [model])
    with pytest.raises(UsageError, match="working directory"):
        check_folder(Path("/"), True, [])


def test_nor_is_a_mount_point():
    with pytest.raises(UsageError, match="mount point"):
        check_folder(Path("/proc"), True, [])


@pytest.mark.parametrize("name", ["thesis.tex", "deep/thesis.tex", "model.onnx", "link", "pipe", ".hidden"])
def test_nor_is_what_no_run_has_written(full, model, name):
    file = full / name
    file.parent.mkdir(exist_ok=True)
    if name == "link":
        file.symlink_to(model.parent)
    elif name == "pipe":
        os.mkfifo(file)
    else:
        file.write_text("mine")
    with pytest.raises(UsageError, match=f"no run has left as they are: {name}"):
        check_folder(full, True, [model])
    assert file.is_symlink() or not file.is_file() or file.read_text() == "mine"


@pytest.mark.parametrize(
    "manifest",
    [None, "", "[]", "{}", '{"name": "app"}', '{"manifest_version": 1}', '{"manifest_version": 99}', "[" * 100_000],
    ids=lambda manifest: str(manifest)[:20],
)
def test_nor_is_a_folder_without_a_manifest_of_ours(full, manifest):
    (full / "manifest.json").unlink()
    if manifest is not None:
        (full / "manifest.json").write_text(manifest)
    with pytest.raises(UsageError, match="not the result of a run"):
        check_folder(full, True, [])


@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_nor_is_a_folder_whose_manifest_is_no_file(full, tmp_path, kind):
    (full / "manifest.json").rename(tmp_path / "manifest.json")
    if kind == "link":
        (full / "manifest.json").symlink_to(tmp_path / "manifest.json")
    elif kind == "pipe":
        os.mkfifo(full / "manifest.json")
    else:
        (full / "manifest.json").mkdir()
    with pytest.raises(UsageError, match="not the result of a run"):
        check_folder(full, True, [])


def test_a_manifest_that_lists_what_lies_elsewhere_endangers_nothing(full, model):
    text = (full / "manifest.json").read_text()
    (full / "manifest.json").write_text(text.replace('"model.onnx"', '"../in/model.onnx"'))
    with pytest.raises(UsageError, match=r"no run has left as they are: model\.onnx"):
        check_folder(full, True, [])


# -- put in place -----------------------------------------------------------------------------------------------


@pytest.fixture(params=["in one step", "in two"])
def exchange(request, monkeypatch):
    """With and without a file system that exchanges two folders."""
    if request.param == "in two":
        monkeypatch.setattr(output, "_exchanged", lambda first, second: False)


@pytest.mark.usefixtures("exchange")
def test_what_was_staged_is_there_in_the_end(full):
    with claimed(full, True) as claim, claim.staged() as aside:
        write_result(aside, "new")
        assert text_in(full) == "old"
    assert text_in(full) == "new"
    assert beside(full) == ["out"]


def test_new_folders_are_made_and_empty_ones_used(tmp_path):
    for folder in (tmp_path / "new" / "deep", tmp_path / "empty"):
        (tmp_path / "empty").mkdir(exist_ok=True)
        run(folder, force=False)
        assert text_in(folder) == "new"
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["empty", "new"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_failure_leaves_everything_as_it_was(full, error):
    def work():
        with claimed(full, True) as claim, claim.staged() as aside:
            (aside / "new").write_text("new")
            raise error

    with pytest.raises(error):
        work()
    assert text_in(full) == "old"
    assert beside(full) == ["out"]


def test_a_failure_leaves_no_folders_above(tmp_path):
    def work():
        with claimed(tmp_path / "new" / "deep" / "out", False):
            raise RuntimeError

    with pytest.raises(RuntimeError):
        work()
    assert not list(tmp_path.iterdir())


def test_a_link_to_a_folder_stays_a_link(full):
    link = full.parent / "link"
    link.symlink_to(full)
    run(link)
    assert link.is_symlink()
    assert text_in(full) == "new"
    assert beside(full) == ["link", "out"]


def test_links_in_a_circle_are_said(tmp_path):
    (tmp_path / "out").symlink_to(tmp_path / "out")
    with pytest.raises(UsageError, match="circle"):
        check_folder(tmp_path / "out", False, [])


def test_a_place_that_cannot_be_written_is_said(model):
    with pytest.raises(UsageError, match="cannot be written"), claimed(model / "below", False):
        pass


# -- what happens meanwhile -------------------------------------------------------------------------------------


def appear(folder: Path, kind: str) -> None:
    if kind == "file":
        folder.write_text("mine")
        return
    folder.mkdir(exist_ok=True)
    (folder / "mine").write_text("mine")


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_appears_is_not_replaced_and_the_result_not_lost(tmp_path, force, kind):
    folder = tmp_path / "out"
    with pytest.raises(UsageError, match="the result, which is finished, lies in") as raised:
        run(folder, force, meanwhile=lambda: appear(folder, kind))
    assert (folder if kind == "file" else folder / "mine").read_text() == "mine"
    kept = tmp_path / next(name for name in beside(folder) if name != "out")
    assert str(kept) in raised.value.what
    assert text_in(kept) == "new"
    assert len(beside(folder)) == 2


@pytest.mark.usefixtures("exchange")
def test_nor_are_files_that_appear_in_the_very_last_moment(full, monkeypatch):
    change_places = output._change_places

    def late(*places):
        (full / "mine").write_text("mine")
        change_places(*places)

    monkeypatch.setattr(output, "_change_places", late)
    with pytest.raises(UsageError, match="no run has left as they are: mine; the result, which is finished, lies in"):
        run(full)
    assert text_in(full) == "old"
    assert (full / "mine").read_text() == "mine"
    assert [text_in(full.parent / name) for name in beside(full)] == ["old", "new"]


def test_inputs_are_looked_at_again(full, model):
    def link():
        model.unlink()
        model.symlink_to(full / "model.onnx")

    with pytest.raises(UsageError, match=r"holds model\.onnx .* lies in"):
        run(full, inputs=[model], meanwhile=link)
    assert text_in(full) == "old"


def test_one_run_at_a_time(full):
    with claimed(full, True):
        for folder in (full, full.parent / "in" / ".." / "out"):
            with pytest.raises(UsageError, match=f"process {os.getpid()} is at work on it"), claimed(folder, True):
                pass
        run(full.with_name("another"))
    run(full)
    assert text_in(full) == "new"


@pytest.fixture
def killed(full):
    """What is left of a run that was killed while two folders changed places: the earlier one lies in its own."""
    work = full.with_name(".out.graphpress")
    work.mkdir()
    (work / OWNER).write_text("1")
    full.rename(work / "earlier")
    write_result(work / "result", "new")
    return work


def test_what_a_killed_run_took_away_comes_back(full, killed):
    with pytest.raises(UsageError, match="not empty"):
        run(full, force=False)
    assert text_in(full) == "old"
    assert beside(full) == ["out"]


def test_it_comes_back_when_another_folder_beside_it_is_written(full, killed):
    run(full.with_name("another"))
    assert text_in(full) == "old"
    assert beside(full) == ["another", "out"]


def test_what_is_in_two_places_is_removed_where_it_is_not_wanted(full, killed):
    write_result(full, "new")
    run(full)
    assert beside(full) == ["out"]


def test_but_not_if_there_is_something_in_it_that_no_run_has_written(full, killed):
    write_result(full, "new")
    (killed / "earlier" / "mine").write_text("mine")
    with pytest.raises(UsageError, match="a run that was killed left it") as raised:
        run(full)
    assert str(killed) in raised.value.fix
    assert (killed / "earlier" / "mine").read_text() == "mine"


def test_a_folder_of_that_name_that_is_not_ours_is_left_alone(full):
    mine = full.with_name(".out.graphpress")
    mine.mkdir()
    (mine / "mine").write_text("mine")
    with pytest.raises(UsageError, match="at work on it") as raised, claimed(full, True):
        pass
    assert str(mine) in raised.value.fix
    assert (mine / "mine").read_text() == "mine"
