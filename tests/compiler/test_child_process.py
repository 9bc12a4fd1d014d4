"""Processes of our own: what they import, and that they die with their parent."""

import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from graphpress.child_process import run_module

SLEEPER = """
    import os, sys, time
    from pathlib import Path
    from graphpress.child_process import receive

    def main():
        Path(receive().strip()).write_text(str(os.getpid()))
        time.sleep(600)
"""
PARENT = "import sys; from graphpress.child_process import run_module; run_module(*sys.argv[1:])"


@pytest.fixture
def modules(tmp_path, monkeypatch):
    """Makes modules that children find."""
    folder = tmp_path / "modules"
    folder.mkdir()
    monkeypatch.setenv("PYTHONPATH", str(folder))

    def make(name, text):
        (folder / f"{name}.py").write_text(textwrap.dedent(text))
        return name

    return make


def appeared(file: Path) -> str:
    for _ in range(3000):
        if file.is_file() and (text := file.read_text()):
            return text
        time.sleep(0.01)
    raise AssertionError(f"{file} did not appear")


def is_alive(process: int) -> bool:
    """Whether it runs; one that nobody has asked after is dead all the same."""
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def is_gone(process: int) -> bool:
    for _ in range(1000):
        if not is_alive(process):
            return True
        time.sleep(0.01)
    return False


def test_the_request_goes_in_and_the_answer_comes_out(modules):
    done = run_module(
        modules("echo", "from graphpress.child_process import receive\ndef main(): print(receive()[::-1])"), "abc"
    )
    assert (done.returncode, done.stdout.strip()) == (0, "cba")


def test_a_large_answer_does_not_block(modules):
    text = """
        import sys
        from graphpress.child_process import receive
        def main():
            receive()
            for stream in (sys.stdout, sys.stderr):
                stream.write("x" * 1_000_000)
            return 7
    """
    done = run_module(modules("wordy", text), "")
    assert (done.returncode, len(done.stdout), len(done.stderr)) == (7, 1_000_000, 1_000_000)


def test_what_lies_in_the_working_directory_is_not_imported(modules, tmp_path, monkeypatch):
    hostile = tmp_path / "hostile"
    hostile.mkdir()
    for name in ("graphpress", "json", "importlib", "ctypes", "numpy", "sitecustomize"):
        (hostile / f"{name}.py").write_text("raise SystemExit('hostile code ran')")
    monkeypatch.chdir(hostile)
    monkeypatch.setattr(sys, "path", ["", str(hostile), *sys.path])
    done = run_module(modules("reader", "import numpy, json\ndef main(): print(numpy.__file__)"), "")
    assert done.stderr == ""
    assert str(hostile) not in done.stdout


def test_a_module_that_only_this_process_can_find_is_found(tmp_path, monkeypatch):
    (tmp_path / "elsewhere.py").write_text("def main(): print('here')")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert run_module("elsewhere", "").stdout.strip() == "here"


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("death", [signal.SIGKILL, signal.SIGTERM])
def test_a_child_dies_with_its_parent(modules, tmp_path, death):
    told = tmp_path / "told"
    parent = subprocess.Popen([sys.executable, "-c", PARENT, modules("sleeper", SLEEPER), str(told)])
    child = int(appeared(told))
    assert is_alive(child)
    parent.send_signal(death)
    parent.wait(60)
    assert is_gone(child)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_end_of_its_input_is_the_end_of_a_child(modules, tmp_path):
    """Where the kernel does not tell."""
    told = tmp_path / "told"
    code = f"import {modules('sleeper', SLEEPER)} as sleeper; sleeper.main()"
    child = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE)
    child.stdin.write(f"{told}\n".encode())
    child.stdin.flush()
    appeared(told)
    assert child.poll() is None
    child.stdin.close()
    assert child.wait(60) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_child_that_takes_too_long_is_killed(modules, tmp_path):
    told = tmp_path / "told"
    with pytest.raises(subprocess.TimeoutExpired):
        run_module(modules("sleeper", SLEEPER), str(told), timeout=3)
    assert not told.exists() or is_gone(int(told.read_text()))


def test_a_child_that_does_not_read_is_no_error(modules):
    done = run_module(modules("deaf", "import os\ndef main(): os._exit(3)"), "x" * 1_000_000)
    assert done.returncode == 3
