"""The process around the command: how it tells a crash, and that otherwise nobody notices it."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import numpy_helper

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="a system without fork runs commands in one process")

PROGRAM = [sys.executable, "-m", "graphpress"]
BAD_INPUT, OUT_OF_MEMORY = 3, 6


def supervising(body):
    """A program that runs a small command below the supervisor: ``body`` is what it does with ``words``."""
    lines = "\n".join(f"    {line}" for line in body.strip().splitlines())
    return (
        "import os, signal, sys, time\n"
        "from graphpress.cli.supervisor import supervise\n"
        "from graphpress.progress import doing\n"
        f"def command(words):\n{lines}\n"
        "sys.exit(supervise(command, sys.argv[1:]))"
    )


def supervised(body, *words, **options):
    """That program, started."""
    return subprocess.Popen(
        [sys.executable, "-c", supervising(body), *words],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=heed_interrupts, **options,
    )  # fmt: skip


def outcome(process, timeout=60):
    out, err = process.communicate(timeout=timeout)
    return process.returncode, out, err


def heed_interrupts():
    """Whatever this process was started to ignore: a shell does that to what it runs in the background."""
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


# -- models that crash ONNX Runtime 1.32 ------------------------------------------------------------------------

LOWEST = {"lowest": np.full(4, -(2**63), np.int64), "minus_one": np.full(4, -1, np.int64)}
LSTM = {
    "x": np.ones((2, 1, 3), np.float32),
    "w": np.ones((1, 16, 3), np.float32),
    "r": np.ones((1, 16, 4), np.float32),
    "b": np.ones((1, 1), np.float32),
}
CRASHING = {
    "constant division": (
        "g (float[4] x) => (int64[4] y, float[4] z) { y = Div (lowest, minus_one) z = Neg (x) }",
        LOWEST,
    ),
    "division": (
        "g (int64[4] x) => (int64[4] y) { zero = Sub (x, x) low = Add (zero, lowest) y = Div (low, minus_one) }",
        LOWEST,
    ),
    "division in a branch": (
        """g (bool c, int64[4] x) => (int64[4] y) {
            zero = Sub (x, x)
            y = If (c) <
                then_branch = t () => (int64[4] a) { low = Add (zero, lowest) a = Div (low, minus_one) },
                else_branch = e () => (int64[4] b) { more = Add (zero, lowest) b = Div (more, minus_one) }
            >
        }""",
        LOWEST,
    ),
    "recurrent weights": (
        """g (float[2,1,3] x) => (float[2,1,1,4] y) {
            y = com.microsoft.AttnLSTM <hidden_size = 4> (x, w, r, b)
        }""",
        {name: LSTM[name] for name in "wrb"},
    ),
}  # fmt: skip


def crashing(name, file):
    text, weights = CRASHING[name]
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["": 17, "com.microsoft": 1]> {text}')
    model.graph.initializer.extend(numpy_helper.from_array(array, key) for key, array in weights.items())
    onnx.save(model, file)
    return file


@pytest.mark.parametrize("name", CRASHING)
def test_a_model_that_crashes_the_runtime_is_one_error_that_names_the_stage(tmp_path, name):
    crashing(name, tmp_path / "m.onnx")
    done = subprocess.run([*PROGRAM, "m.onnx", "--json"], capture_output=True, text=True, cwd=tmp_path, timeout=60)
    assert (done.returncode, done.stderr) == (BAD_INPUT, "")
    error = json.loads(done.stdout)["error"]
    assert re.fullmatch(r"a native library crashed \(SIG\w+\) while (loading|running) \S.*", error["what"])
    assert error["exit_code"] == BAD_INPUT
    assert [path.name for path in tmp_path.iterdir()] == ["m.onnx"]


@pytest.mark.parametrize("words", [["bench"], ["compare", "m.onnx"]])
def test_other_commands_survive_it_too(tmp_path, words):
    crashing("constant division", tmp_path / "m.onnx")
    done = subprocess.run([*PROGRAM, *words, "m.onnx"], capture_output=True, text=True, cwd=tmp_path, timeout=60)
    assert done.returncode == BAD_INPUT
    assert f"while running `optimize {words[0]}`: loading m.onnx" in done.stderr


# -- a crash at each stage of the work --------------------------------------------------------------------------

USERS_CODE = """
import ctypes, os, signal
import numpy as np

calls = 0

def on_call(which):
    global calls
    calls += 1
    if calls == which:
        ctypes.string_at(0)

def feeds():
    os.abort()

def at_once(outputs, labels):
    on_call(1)
    return 1.0

def later(model):
    on_call(2)
    return 1.0

def surgeon(graph):
    os.kill(os.getpid(), signal.SIGBUS)

def malpractice(graph):
    import onnx_graphsurgeon as gs
    shapes = {"lstm.x": (2, 1, 3), "lstm.w": (1, 16, 3), "lstm.r": (1, 16, 4), "lstm.b": (1, 1)}
    weights = [gs.Constant(name, np.ones(shape, np.float32)) for name, shape in shapes.items()]
    states, total, before = (gs.Variable(name, np.float32) for name in ("states", "total", "before"))
    y, = graph.outputs
    y.inputs[0].outputs = [before]
    graph.nodes.append(gs.Node("AttnLSTM", inputs=weights, outputs=[states], domain="com.microsoft",
                               attrs={"hidden_size": 4}))
    graph.nodes.append(gs.Node("ReduceSum", inputs=[states], outputs=[total], attrs={"keepdims": 0}))
    graph.nodes.append(gs.Node("Add", inputs=[before, total], outputs=[y]))
"""
STAGES = {
    "reading the data": ["--data", "mine:feeds"],
    "measuring small.onnx": ["--data", "d.npz", "--metric", "mine:at_once"],
    "evaluating the result of quantize": ["--data", "d.npz", "--passes", "quantize", "--metric", "mine:later"],
    "running the pass surgery": ["--passes", "surgery{function=mine:surgeon}"],
    "running the model as the lossless passes leave it": [
        "--passes", "surgery{function=mine:malpractice,lossless=true}"
    ],
}  # fmt: skip


@pytest.mark.parametrize("stage", STAGES)
def test_a_crash_names_the_stage_and_leaves_nothing_behind(model_file, tmp_path, stage):
    """The last one is a pass that makes a model which crashes the runtime."""
    if "surgery" in " ".join(STAGES[stage]):
        pytest.importorskip("onnx_graphsurgeon")
    (tmp_path / "mine.py").write_text(USERS_CODE)
    np.savez(tmp_path / "d.npz", x=np.ones((4, 3, 16, 16), np.float32))
    before = sorted(tmp_path.iterdir())
    done = subprocess.run(
        [*PROGRAM, model_file.name, *STAGES[stage], "--quiet"], capture_output=True, text=True, cwd=tmp_path, timeout=60
    )
    assert done.returncode == BAD_INPUT
    assert done.stderr.count("error: ") == 1
    assert re.search(rf"a native library crashed \(SIG\w+\) while .*{stage}", done.stderr)
    assert [path for path in sorted(tmp_path.iterdir()) if path.name != "__pycache__"] == before


# -- what the supervisor says and passes on ---------------------------------------------------------------------


@pytest.mark.parametrize("number", ["SIGABRT", "SIGBUS", "SIGFPE", "SIGILL", "SIGSEGV"])
def test_each_crash_has_its_name(number):
    code, out, err = outcome(supervised(f"with doing('trying'): os.kill(os.getpid(), signal.{number})"))
    assert (code, out) == (BAD_INPUT, "")
    assert err.startswith(f"error: a native library crashed ({number}) while trying\nfix: run again with --debug")


def test_what_the_memory_killer_ends_is_no_fault_of_the_model():
    code, _, err = outcome(supervised("with doing('measuring'): os.kill(os.getpid(), signal.SIGKILL)"))
    assert code == OUT_OF_MEMORY
    assert err.startswith("error: it was killed while measuring, most likely because memory ran out\nfix: ")


def test_the_stage_is_that_around_a_stage_that_is_over():
    body = "with doing('choosing'):\n    with doing('compiling'): pass\n    os.abort()"
    assert "while choosing\n" in outcome(supervised(body))[2]


def test_stages_within_stages_are_all_named_and_a_long_one_is_cut():
    body = "with doing('choosing'), doing('m' * 10_000): os.abort()"
    assert "while choosing: mmm" in outcome(supervised(body))[2]


def test_who_ends_the_process_behind_our_back_is_told(tmp_path):
    code, out, err = outcome(supervised("with doing('evaluating'): os._exit(0)"))
    assert (code, out) == (BAD_INPUT, "")
    assert err.startswith(
        "error: a native library, or code that the command runs, ended the process (exit code 0) while"
    )
    body = "os.write(2, b'OpenBLAS error: Memory allocation still failed after 10 retries, giving up.')\nos._exit(1)"
    code, out, err = outcome(supervised(body))
    assert code == OUT_OF_MEMORY
    assert err.startswith("error: memory ran out: ")


def test_names_in_a_stage_cannot_steer_the_terminal():
    assert r"reading \x1b[2J" in outcome(supervised(r"with doing('reading \x1b[2J'): os.abort()"))[2]


@pytest.mark.parametrize("code", [0, 1, 4, 141])
def test_an_exit_code_is_handed_on(code):
    assert outcome(supervised(f"print('done')\nreturn {code}")) == (code, "done\n", "")


@pytest.mark.parametrize(("words", "shown"), [([], False), (["--debug"], True)])
def test_the_last_words_of_native_code_are_for_debugging(words, shown):
    body = "os.write(2, b'terminate called after throwing\\n')\nprint('of Python', file=sys.stderr)\nos.abort()"
    _, _, err = outcome(supervised(body, *words))
    assert ("terminate called" in err) == shown
    assert "of Python\n" in err


def test_what_native_code_says_in_a_run_that_ends_well_is_not_lost():
    body = "os.write(2, b'a warning\\n')\nprint('of Python', file=sys.stderr)\nreturn 0"
    assert outcome(supervised(body)) == (0, "", "of Python\na warning\n")


# -- signals ----------------------------------------------------------------------------------------------------

WAITS = """
try:
    print(os.getpid(), flush=True)
    while True: time.sleep(0.02)
except KeyboardInterrupt:
    time.sleep(0.1)  # tidying, which a second interrupt would cut short
    print("tidy", flush=True)
    return 130
"""


def test_an_interrupt_of_the_whole_group_is_one_interrupt():
    """As a terminal sends it: to the command and its child alike."""
    process = supervised(WAITS, process_group=0)
    process.stdout.readline()
    os.killpg(process.pid, signal.SIGINT)
    assert outcome(process) == (130, "tidy\n", "")


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGTERM])
def test_a_signal_that_ends_a_program_ends_the_command_by_that_signal(number):
    process = supervised(WAITS)
    child = int(process.stdout.readline())
    process.send_signal(number)
    assert outcome(process) == (-number, "", "")
    assert not alive(child)


def test_ignored_signals_stay_ignored():
    """As ``nohup`` has it."""
    program = supervising("print(signal.getsignal(signal.SIGHUP), flush=True)\nsys.stdin.read()\nreturn 0")
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN),
    )  # fmt: skip
    assert process.stdout.readline() == f"{signal.SIG_IGN}\n"
    process.send_signal(signal.SIGHUP)
    process.communicate(timeout=60)
    assert process.returncode == 0


def test_the_work_dies_with_a_command_that_is_killed():
    process = supervised(WAITS)
    child = int(process.stdout.readline())
    process.kill()
    process.wait(60)
    assert until(lambda: not alive(child))


def test_pausing_the_command_pauses_the_work():
    """In a process group of its own, beside this one: the kernel pauses no group that nobody could wake."""
    process = supervised(WAITS, process_group=0)
    child = int(process.stdout.readline())
    try:
        process.send_signal(signal.SIGTSTP)
        assert until(lambda: state(child) == state(process.pid) == "T")
        process.send_signal(signal.SIGCONT)
        assert until(lambda: state(child) != "T" and state(process.pid) != "T")
        process.send_signal(signal.SIGINT)
        assert outcome(process)[:2] == (130, "tidy\n")
    finally:
        process.kill()


def alive(pid):
    with suppress(ProcessLookupError):
        return state(pid) != "Z"
    return False


def state(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        raise ProcessLookupError from None


def until(condition, seconds=20):
    """Whether it comes true; what is waited for is another process, so there is nothing to be notified by."""
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)
    return condition()
