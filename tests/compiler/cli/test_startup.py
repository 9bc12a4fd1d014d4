"""The command line starts fast: what is heavy is imported where it is used."""

import subprocess
import sys
import time

import pytest

HEAVY = ("onnx_ir", "onnx", "onnxruntime", "pydantic", "rich", "jinja2", "torch", "sklearn", "PIL", "yaml")
BUDGET_SECONDS = 0.4

STARTS = {
    "import": "import graphpress",
    "help": "from graphpress.cli.main import main; main(['--help'])",
    "targets": "from graphpress.cli.main import main; main(['targets'])",
    "version": "from graphpress.cli.main import main; main(['--version'])",
    "usage error": "from graphpress.cli.main import main; main(['m.onnx', '--nonesuch'])",
}


@pytest.mark.parametrize("start", STARTS)
def test_nothing_heavy_is_imported(start):
    check = f"; import sys; print([name for name in {HEAVY!r} if name in sys.modules], file=sys.__stderr__)"
    done = subprocess.run([sys.executable, "-c", STARTS[start] + check], capture_output=True, text=True, check=True)
    assert done.stderr.splitlines()[-1] == "[]"


@pytest.mark.parametrize("start", ["import", "help", "targets"])
def test_starts_within_the_budget(start):
    """The best of five, because the machine may be busy with other tests."""
    assert min(seconds_of(STARTS[start]) for _ in range(5)) < BUDGET_SECONDS


def seconds_of(code):
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    return time.perf_counter() - started
