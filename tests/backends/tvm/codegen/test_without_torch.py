"""Compiling does not load torch, and leaves it to those who do."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from graphpress.backends.tvm.codegen.without_torch import AbsentTorch

SCRIPT = """
import sys
import graphpress.backends.tvm.processor
import graphpress.backends.tvm.codegen.legalize
print("torch" in sys.modules)
import torch
print(torch.answer)
"""


def test_torch_is_not_loaded_and_can_be_afterwards(tmp_path):
    (tmp_path / "torch.py").write_text("answer = 42\n")
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path}
    done = subprocess.run([sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True)
    assert done.stdout.split() == ["False", "42"], done.stderr


def test_other_threads_find_it():
    absent = AbsentTorch()
    with ThreadPoolExecutor(1) as other:
        assert other.submit(absent.find_spec, "torch", None).result() is None
    with pytest.raises(ModuleNotFoundError):
        absent.find_spec("torch", None)
