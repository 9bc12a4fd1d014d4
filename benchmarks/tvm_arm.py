"""Whole models for Arm, computed by the emulator, beside ONNX Runtime on this machine.

    GRAPHPRESS_DATA=... python benchmarks/tvm_arm.py [--models resnet20_cifar10 bert ...] [--precisions float32 int8]

For each processor the model is made by `optimize --backend tvm`: once without passes that change numbers, once in int8.
Its library runs in qemu as that processor, which ends a program that uses a newer instruction; ONNX Runtime runs the
model.onnx beside it. Differences are the largest of all outputs of some samples that nothing was calibrated on,
relative to the largest number in any output. Needs qemu-user-static, gcc-aarch64-linux-gnu and its binutils.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

# The folder of a script comes first in the search path, where tvm.py would hide the package of the same name.
sys.path.append(sys.path.pop(0))

import numpy as np

from graphpress.backends.tvm.board.served import ServedModel
from graphpress.backends.tvm.processor import isa_of
from graphpress.data import synthetic_samples
from graphpress.ir import save
from graphpress.models import build
from graphpress.runtime import Session
from graphpress.targets import load_target

REAL = ("resnet20_cifar10", "mobilenet_v1_0.25_224", "yunet_n_320_320")
BERT = {"layers": 2, "width": 128, "heads": 4, "vocabulary": 1000, "longest": 64, "sequence": 64}
RECIPES = {"float32": "fuse", "int8": "int8"}
I8MM = """description = "an Arm processor with int8 matrix products"
like = "arm64"
[processor]
features = ["asimd", "asimddp", "i8mm"]
"""
PROCESSORS = ("raspberrypi4", "raspberrypi5", "./i8mm.toml")
"""Targets: Cortex-A72, Cortex-A76, and one with i8mm."""
DOTS = re.compile(r"\t(smull|sadalp|sdot|usdot|sudot|usmmla)\s+v")
CALIBRATED, COMPARED = 8, 3


@dataclass(frozen=True)
class Row:
    """What came of one model.

    Args:
        difference: from ONNX Runtime, relative to the largest output.
        instructions: integer products in the library.
        bytes: of the library without weights.
    """

    difference: float
    instructions: str
    bytes: int


def main() -> None:
    """Print a line for each model, precision and processor."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=(*REAL, "bert"), default=[*REAL, "bert"])
    parser.add_argument("--precisions", nargs="+", choices=RECIPES, default=list(RECIPES))
    parser.add_argument("--targets", nargs="+", default=list(PROCESSORS))
    options = parser.parse_args()
    print("| model | precision | processor | difference | integer products | library |")
    print("|---|---|---|---|---|---|")
    for model in options.models:
        with tempfile.TemporaryDirectory() as folder:
            os.chdir(folder)
            samples = prepare(model)
            for precision in options.precisions:
                for target in options.targets:
                    print(f"| {model} | {precision} | {compared(precision, target, samples)} |", flush=True)
            os.chdir("/")


def prepare(name: str) -> list[dict[str, np.ndarray]]:
    """Write the model and its samples here; the last are not calibrated on."""
    if name == "bert":
        save(build("bert", **BERT), "original.onnx")
    else:
        Path("original.onnx").write_bytes((Path(os.environ["GRAPHPRESS_DATA"]) / f"{name}.onnx").read_bytes())
    Path("i8mm.toml").write_text(I8MM)
    samples = list(synthetic_samples(Session("original.onnx").inputs, CALIBRATED + COMPARED, seed=0))
    calibrated = samples[:CALIBRATED]
    np.savez("samples.npz", **{key: np.concatenate([feed[key] for feed in calibrated]) for key in calibrated[0]})
    return samples


def compared(precision: str, target: str, samples: list[dict[str, np.ndarray]]) -> str:
    """Columns of a model that is made for a target."""
    shapes = [f"{name}={'x'.join(map(str, array.shape))}" for name, array in samples[0].items()]
    words = [sys.executable, "-m", "graphpress", "./original.onnx", "--backend", "tvm", "--data", "samples.npz"]
    words += ["--recipe", RECIPES[precision], "--target", target, "--max-drop", "none", "--allow-worse", "--force"]
    words += ["--output", "out", "--threads", "1", "--cache-dir", "cache", "--quiet"]
    words += [word for shape in shapes for word in ("--input-shape", shape)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    isa = isa_of(load_target(target))
    if done.returncode:
        return f"{isa.processor} ({isa.name}) | {done.stderr.strip().splitlines()[-1][:120]} | – | –"
    row = measured(ServedModel(Path("out"), isa, threads=1), samples[CALIBRATED:])
    return f"{isa.processor} ({isa.name}) | {row.difference:.2g} | {row.instructions} | {row.bytes / 1000:.0f} kB"


def measured(runner: ServedModel, samples: list[dict[str, np.ndarray]]) -> Row:
    """The library in ``out`` beside the model in ``out``."""
    session, difference = Session("out/model.onnx"), 0.0
    for feed in samples:
        results = runner.run(feed)
        expected = session.run(feed)
        largest = max(float(np.abs(array).max()) for array in expected.values()) or 1.0
        moved = (float(np.abs(results[name] - array).max()) for name, array in expected.items())
        difference = max(difference, max(moved) / largest)
    runner.stand_by()
    command = ["aarch64-linux-gnu-objdump", "-d", "--no-show-raw-insn", "out/libmodel.so"]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return Row(difference, ", ".join(sorted(set(DOTS.findall(text)))) or "–", Path("out/libmodel.so").stat().st_size)


if __name__ == "__main__":
    main()
