import io
import re
import time

import pytest

from graphpress.cli.progress import LineProgress, RichProgress, progress_on_stderr
from graphpress.progress import Silent


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_silence_says_nothing(capsys):
    with progress_on_stderr(silent=True) as progress:
        assert isinstance(progress, Silent)
        assert list(progress.track([1, 2], "working")) == [1, 2]
    assert capsys.readouterr() == ("", "")


def test_a_log_gets_one_line_a_stage(capsys):
    with progress_on_stderr() as progress:
        assert isinstance(progress, LineProgress)
        assert list(progress.track([1, 2], "working")) == [1, 2]
    assert capsys.readouterr() == ("", "working …\n")


@pytest.fixture
def on_terminal(monkeypatch):
    """Call it inside the test: pytest puts its own stderr in place just before."""

    def switch():
        monkeypatch.setattr("sys.stderr", stream)
        return stream

    stream = Terminal()
    monkeypatch.setenv("TERM", "xterm-256color")
    return switch


def test_a_terminal_gets_a_bar_that_goes_away(on_terminal):
    terminal = on_terminal()
    with progress_on_stderr() as progress:
        assert isinstance(progress, RichProgress)
        for at, _ in enumerate(progress.track(iter(range(3)), "[b]evaluating[/b]", total=3)):
            assert len(progress._bars.tasks) == 1
            assert progress._bars.tasks[0].completed == at
            progress._bars.refresh()
        assert progress._bars.tasks == []
    assert "[b]evaluating[/b]" in terminal.getvalue()


def test_a_bar_says_how_long_the_rest_takes(on_terminal, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    terminal = on_terminal()
    with progress_on_stderr() as progress:
        for _ in progress.track(range(3), "comparing outputs with those before"):
            time.sleep(0.02)
            progress._bars.refresh()
    lines = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.getvalue()).replace("\r", "\n").split("\n")
    assert any(re.search(r"2/3 .*· 0:00:0\d left", line) for line in lines)
    assert all(len(line) <= 80 for line in lines)


def test_the_total_is_the_length_where_there_is_one(on_terminal):
    on_terminal()
    with progress_on_stderr() as progress:
        for _ in progress.track([1, 2, 3, 4], "working"):
            assert progress._bars.tasks[0].total == 4
        for _ in progress.track(iter([1]), "working"):
            assert progress._bars.tasks[0].total is None


def test_a_stage_that_breaks_leaves_the_screen(on_terminal):
    on_terminal()
    with progress_on_stderr() as progress:
        stage = progress.track([1, 2], "working")
        next(stage)
        stage.close()
        assert progress._bars.tasks == []
