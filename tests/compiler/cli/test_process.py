"""Real processes: exit codes, streams and signals as a shell sees them."""

import json
import signal
import subprocess
import sys
import time

import pytest

ENDLESS = """
import time
import numpy as np

class Feeds:
    def __iter__(self):
        print("begun", flush=True)
        while True:
            time.sleep(0.01)
            yield {"x": np.zeros((1, 3, 16, 16), np.float32)}

def feeds():
    return Feeds()
"""
PROGRAM = [sys.executable, "-m", "graphpress"]


def call(*words, cwd=None):
    return subprocess.run([*PROGRAM, *map(str, words)], capture_output=True, text=True, cwd=cwd, timeout=120)


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["--version"], 0),
        (["targets"], 0),
        ([], 2),
        (["m.onnx", "--nonesuch"], 2),
        (["nowhere.onnx"], 3),
        (["inspect", "nowhere.onnx"], 3),
    ],
)
def test_exit_codes(words, code, tmp_path):
    done = call(*words, cwd=tmp_path)
    assert done.returncode == code
    assert "Traceback" not in done.stderr
    assert bool(done.stdout) == (code == 0)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"not a model at all", bytes(range(256)) * 8])
def test_a_broken_model_is_one_message_and_leaves_nothing_behind(content, tmp_path):
    (tmp_path / "broken.onnx").write_bytes(content)
    done = call("broken.onnx", cwd=tmp_path)
    assert done.returncode == 3
    assert done.stderr.count("error: ") == 1
    assert "Traceback" not in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["broken.onnx"]


def test_a_broken_model_as_json(tmp_path):
    (tmp_path / "broken.onnx").write_bytes(b"x")
    done = call("broken.onnx", "--json", cwd=tmp_path)
    assert done.returncode == 3
    assert done.stderr == ""
    assert json.loads(done.stdout)["error"]["exit_code"] == 3


def test_a_closed_pipe_ends_quietly():
    code = "import sys; from graphpress.cli.main import main; sys.exit(main(['--help']))"
    process = subprocess.Popen([sys.executable, "-u", "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.close()
    assert "Traceback" not in process.stderr.read().decode()
    process.stderr.close()
    assert process.wait(30) == 141


@pytest.mark.parametrize(("words", "code"), [(["targets"], 6), (["passes", "nonesuch", "--json"], 2)])
def test_a_full_disk_behind_stdout_is_told_without_a_traceback(words, code):
    with open("/dev/full", "w") as full:
        done = subprocess.run([*PROGRAM, *words], stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
    assert done.returncode == code
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    assert "bug" not in done.stderr


def test_an_interrupt_while_the_program_is_being_imported_is_no_traceback():
    code = (
        "import signal, sys\n"
        "class Interrupting:\n"
        "    def find_spec(self, name, *rest):\n"
        "        if name == 'graphpress.cli.program': signal.raise_signal(signal.SIGINT)\n"
        "sys.meta_path.insert(0, Interrupting())\n"
        "from graphpress.cli.main import main\n"
        "sys.exit(main(['targets']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, preexec_fn=heed_interrupts)
    assert done.returncode == 130
    assert done.stderr == "error: interrupted; nothing was written\n"


def heed_interrupts():
    """A test run in the background of a shell inherits that interrupts are ignored; the program under test must not."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_stopping_a_run_leaves_nothing_behind(model_file, tmp_path, number, code):
    """The data is a generator that never ends, so that the interrupt comes in the middle of the work."""
    (tmp_path / "slow.py").write_text(ENDLESS)
    before = sorted(tmp_path.iterdir())
    process = subprocess.Popen(
        [*PROGRAM, str(model_file), "--data", "slow:feeds", "--quiet"],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=heed_interrupts,
    )  # fmt: skip
    try:
        assert process.stdout.readline() == "begun\n", process.stderr.read()
        time.sleep(0.1)
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == code
    assert "; nothing was written" in err
    assert "Traceback" not in err
    assert [path for path in sorted(tmp_path.iterdir()) if path.name != "__pycache__"] == before
