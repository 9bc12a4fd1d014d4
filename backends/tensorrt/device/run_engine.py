"""Run an engine on samples: through TensorRT's Python package, or else through trtexec. Needs Python 3.8 and numpy."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

FOLDER = Path(__file__).resolve().parent
FIRST_WITH_INT64 = 10
"""Earlier versions of TensorRT turn inputs of 64-bit integers into 32-bit ones, and no tool shows it of an engine."""
TOOLS = {
    "tensorrt": ("trtexec", "/usr/src/tensorrt/bin/trtexec"),
    "tensorrt_rtx": ("tensorrt_rtx",),
}
"""The command-line tool of each product, and where else it may lie."""


class CannotRunError(Exception):
    """The engine cannot be run here; the message says why."""


class EngineFile(NamedTuple):
    """An engine to run.

    Args:
        file: where it is.
        open_inputs: names of the inputs with open dimensions.
        version: of the TensorRT that built it, such as ``10.3.0``.
        product: ``tensorrt`` or ``tensorrt_rtx``: neither loads the other's engines.
    """

    file: Path
    open_inputs: list[str]
    version: str
    product: str = "tensorrt"

    @property
    def has_int64(self) -> bool:
        """Whether its inputs can be 64-bit integers; those of TensorRT for RTX always can."""
        return self.product != "tensorrt" or int(re.findall(r"\d+", self.version)[0]) >= FIRST_WITH_INT64


def run(plan: EngineFile, feeds: list[Any], trtexec: str, known: str) -> list[Any]:
    """The engine's outputs by name, for each feed.

    Args:
        plan: the engine.
        feeds: arrays by input.
        trtexec: the tool to use rather than Python; "" for Python first.
        known: the tool that built the engine, where one did.

    Raises:
        CannotRunError: there is nothing to run it with, or it does not run.
    """
    reason = ""
    if not trtexec:
        try:
            return run_in_python(plan, feeds)
        except Exception as error:  # whatever is missing or broken there, the tool may still work
            reason = f"{type(error).__name__}: {error}"
    optimum = [known, *TOOLS[plan.product]]
    tool = next((name for name in ([trtexec] if trtexec else optimum) if shutil.which(name)), None)
    if tool is None:
        missing = f"no {TOOLS[plan.product][0]}; from Python: {reason}"
        raise CannotRunError(f"{trtexec} cannot be run" if trtexec else missing)
    try:
        return [run_with_tool(tool, plan, feed) for feed in feeds]
    except CannotRunError as error:
        raise CannotRunError(f"{error}; from Python: {reason}" if reason else str(error)) from error


def run_in_python(plan: EngineFile, feeds: list[Any]) -> list[Any]:
    """Through TensorRT's Python package, with the engine.py beside this file."""
    with load(plan) as engine:
        types = {port.name: port.dtype for port in engine.ports}
        return [dict(engine.run({name: array.astype(types[name]) for name, array in feed.items()})) for feed in feeds]


def layers(plan: EngineFile) -> list[Any]:
    """The engine's own list of layers, through TensorRT's Python package.

    Raises:
        CannotRunError: it cannot be loaded here.
    """
    try:
        with load(plan) as engine:
            return list(engine.layers())
    except Exception as error:  # whatever is missing or broken there
        raise CannotRunError(f"{type(error).__name__}: {error}") from error


def load(plan: EngineFile) -> Any:
    """The engine, with the engine.py beside this file."""
    spec = importlib.util.spec_from_file_location("engine", str(FOLDER / "engine.py"))
    assert spec is not None
    assert spec.loader is not None
    engine: Any = importlib.util.module_from_spec(spec)
    sys.modules["engine"] = engine
    spec.loader.exec_module(engine)
    return engine.Engine(plan.file, engine.import_tensorrt((plan.product,)))


def run_with_tool(tool: str, plan: EngineFile, feed: Any) -> Any:
    """Through trtexec, which reads raw bytes and writes JSON."""
    with tempfile.TemporaryDirectory() as scratch:
        inputs = []
        for at, (name, array) in enumerate(feed.items()):
            narrow = array.dtype == np.int64 and not plan.has_int64
            np.ascontiguousarray(array, np.int32 if narrow else array.dtype).tofile(f"{scratch}/input-{at}.bin")
            inputs.append(f"{quoted(name)}:{scratch}/input-{at}.bin")
        result = Path(scratch) / "outputs.json"
        shapes = [f"{quoted(name)}:{'x'.join(map(str, feed[name].shape))}" for name in feed if name in plan.open_inputs]
        command = [tool, f"--loadEngine={plan.file}", f"--loadInputs={','.join(inputs)}", f"--exportOutput={result}"]
        command += [f"--shapes={','.join(shapes)}"] if shapes else []
        command += ["--warmUp=0", "--duration=0", "--iterations=1"]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode or not result.is_file():
            errors = [line for line in done.stdout.splitlines() if "[E]" in line] or done.stdout.splitlines()[-1:]
            raise CannotRunError(f"{tool} cannot run the engine: {' '.join(errors[:1])}")
        return read_outputs(result)


def read_outputs(file: Path) -> dict[str, Any]:
    """The tool's JSON, which writes numbers that are not finite in a notation of its own."""
    names = {"nan": "NaN", "-nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}
    text = re.sub(r"(?<=[\s,\[])-?(?:nan|inf)(?=[\s,\]])", lambda match: names[match[0]], file.read_text("utf-8"))
    outputs = {}
    for output in json.loads(text):
        shape = [int(size) for size in re.findall(r"\d+", output["dimensions"])]
        outputs[output["name"]] = np.array(output["values"]).reshape(shape)
    return outputs


def quoted(name: str) -> str:
    """A name as trtexec wants it.

    >>> quoted("x"), quoted("x:0")
    ('x', "'x:0'")
    """
    return f"'{name}'" if set(name) & set(":,") else name
