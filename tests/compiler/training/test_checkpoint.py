import pickle
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="needs PyTorch: pip install 'graphpress[torch]'")

from graphpress.training.checkpoint import Store


class Danger:
    def __reduce__(self):
        return (print, ("this must never run",))


def test_what_was_saved_is_read(tmp_path):
    store = Store(tmp_path / "deep" / "state.pt")
    assert store.load() is None
    store.save({"weights": {"w": torch.arange(3.0)}, "numbers": {"step": 7, "best": 0.5}})
    state = store.load()
    assert state["numbers"] == {"step": 7, "best": 0.5}
    assert state["weights"]["w"].tolist() == [0, 1, 2]
    assert [file.name for file in store.file.parent.iterdir()] == ["state.pt"], "nothing is left aside"
    store.discard()
    store.discard()
    assert store.load() is None


def test_a_damaged_or_foreign_file_counts_as_none(tmp_path, capsys):
    store = Store(tmp_path / "state.pt")
    store.save({"numbers": {}})
    whole = store.file.read_bytes()
    for content in (b"", b"nonsense", whole[: len(whole) // 2], pickle.dumps(Danger())):
        store.file.write_bytes(content)
        assert store.load() is None
    torch.save({"version": 0}, store.file)
    assert store.load() is None
    assert capsys.readouterr().out == ""


def test_a_state_that_cannot_be_written_is_done_without(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    nowhere = Store(tmp_path / "file" / "state.pt", seconds=0.0)
    nowhere.save({"numbers": {}})
    full = Store(tmp_path / "state.pt", seconds=0.0)
    monkeypatch.setattr(Path, "open", lambda path, mode: open("/dev/full", mode))  # noqa: SIM115
    full.save({"weights": torch.zeros(1 << 20)})
    for store in (nowhere, full):
        assert "nothing is kept in" in store.fault
        assert not store.due
        store.discard()
    assert not (tmp_path / "state.pt").exists()


def test_it_is_due_after_a_while(tmp_path):
    assert Store(tmp_path / "a", seconds=0.0).due
    store = Store(tmp_path / "b", seconds=1000.0)
    assert not store.due
