"""Engines built ahead of time for GPUs that are not here: what is requested, what it becomes, what the build costs.

    python benchmarks/tensorrt.py [--models resnet50 bert ...] [--recipes float16 ...] [--capabilities 8.6 ...]

For each model and recipe: the legalized model built with NVIDIA's own compiler for each compute capability. Columns:
layers that multiply and should be narrower than float32, those that became it, those that the engine does not name
(fused into others), seconds, peak memory of the building process, engine.
Nothing is executed: there is no latency in this table.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from graphpress import load, optimize, save
from graphpress.backend import ShapeRange
from graphpress.backends.tensorrt.aot_check import keeps
from graphpress.backends.tensorrt.build import BuildRequest, build
from graphpress.backends.tensorrt.engine_layers import types_of_nodes
from graphpress.backends.tensorrt.profiles import profile_of
from graphpress.backends.tensorrt.quantization_roles import quantization_roles
from graphpress.data import synthetic_samples
from graphpress.models import build as build_model
from graphpress.runtime import Session

MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "resnet50": ("resnet", {"depth": 50, "width": 64, "classes": 1000, "image": 224}),
    "bert": ("bert", {"layers": 12, "width": 768, "heads": 12, "vocabulary": 30522, "longest": 512}),
    "vit": ("vit", {"layers": 12, "width": 768, "heads": 12, "image": 224, "patch": 16, "classes": 1000}),
    "unet": ("unet", {}),
    "detector": ("detector", {}),
}
RANGES = {"bert": {"input_ids": ShapeRange((1, 16), (1, 128), (16, 256))}}
"""Open dimensions beside the batch."""
RECIPES = ("float16", "int8-float16", "int4-weights", "float8")
CAPABILITIES = ("8.0", "8.6", "8.9", "12.0")
TARGET = "dgpu{tensorrt=10.13}"


def legalized(name: str, recipe: str, folder: Path) -> tuple[Path, Any]:
    """The model in the form that is delivered, with its report."""
    family, arguments = MODELS[name]
    source = save(build_model(family, **arguments), folder / f"{name}.onnx")[0]
    samples = synthetic_samples(Session(source, threads=2).inputs, 4, seed=0)
    data = folder / f"{name}.npz"
    np.savez(data, **{key: np.concatenate([feed[key] for feed in samples]) for key in next(iter(samples))})
    target = TARGET if recipe != "float8" else f"{TARGET[:-1]},generation=ada}}"
    result = optimize(source, target=target, recipe=recipe, data=data, max_drop=None, allow_worse=True,
                      output=folder / f"{name}-{recipe}", threads=2)  # fmt: skip
    return result.output / "model.onnx", result.report


def row(name: str, recipe: str, capability: str, file: Path, report: Any) -> str:
    """One line of the table."""
    profile = profile_of(load(file), RANGES.get(name, {}), [])
    result = build(BuildRequest(file, capability=capability, profile=profile, product="tensorrt_rtx"))
    head = f"| {name} | {recipe} | SM{capability.replace('.', '')} |"
    if not result.built:
        reason = next((message.text for message in result.messages if "error" in message.severity), "no reason given")
        return f"{head} refused: {reason[-100:]} | | | | | |"
    became = types_of_nodes(result.layers, quantization_roles(load(file)))
    requested = {layer.name: layer.asked for layer in report.layers if layer.macs and layer.asked != "float32"}
    kept = sum(name in became and keeps(kind, became[name]) for name, kind in requested.items())
    fused = sum(name not in became for name in requested)
    return (
        f"{head} {len(requested)} | {kept} | {fused} | {result.seconds:.1f} | {result.peak_bytes / 2**20:.0f} | "
        f"{result.bytes / 1e6:.1f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for option, known in (("models", tuple(MODELS)), ("recipes", RECIPES), ("capabilities", CAPABILITIES)):
        parser.add_argument(f"--{option}", nargs="+", choices=known, default=known)
    options = parser.parse_args()
    print("| model | recipe | built for | requested | became it | vanished | seconds | peak MiB | engine MB |")
    print("|---|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for name in options.models:
            for recipe in options.recipes:
                file, report = legalized(name, recipe, Path(folder))
                for capability in options.capabilities:
                    print(row(name, recipe, capability, file, report), flush=True)


if __name__ == "__main__":
    main()
