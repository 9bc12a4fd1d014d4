"""What ``verify.py`` compares the device with, and the page of instructions for the folder."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from graphpress.backends.tensorrt.bundle.commands import BUILDER_FLAGS, CALIBRATION, TOOLS, Way, spec, usual_command
from graphpress.backends.tensorrt.bundle.contents import Bundle
from graphpress.backends.tensorrt.bundle.golden import ExpectedOutput, Golden
from graphpress.backends.tensorrt.bundle.script import template
from graphpress.manager.manifest import file_record
from graphpress.plain import plain
from graphpress.printable import printable_json, shell_word
from graphpress.runtime import has_half_concats

BUNDLE_VERSION = 1

WHAT = {
    "model.onnx": "the model in the typing that the device prefers",
    "model-strong.onnx": "the same, with every type written out",
    "model-weak.onnx": "the same in float32 with Q/DQ nodes, for networks that are weakly typed",
    "model-float.onnx": "the same without quantization, for the deep learning accelerator",
    CALIBRATION: "the ranges that go with it",
    "build.sh": "builds the engine on the device",
    "build_engine.py": "does so through TensorRT's Python package, where the tool is missing",
    "verify.py": "checks files, layers and outputs",
    "run_engine.py": "runs the engine for it, from Python or through the tool",
    "engine.py": "runs and measures an engine from Python",
}


def expected_json(
    bundle: Bundle, samples: Sequence[Golden], outputs: Sequence[ExpectedOutput], files: Sequence[Path]
) -> str:
    """The text of ``expected.json``: a versioned manifest of what was expected.

    Args:
        bundle: what was written.
        samples: the golden samples, in order.
        outputs: how near each output comes.
        files: everything else in the folder, ``model.onnx`` first.
    """
    folder = files[0].parent
    table = {
        "bundle_version": BUNDLE_VERSION,
        "target": bundle.target.name,
        "options": bundle.target.chosen,
        "product": bundle.platform.product,
        "tensorrt": bundle.platform.tensorrt,
        "workspace_mib": bundle.workspace_mib,
        "sparse": bundle.sparse,
        "ways": {way.name: _way(way) for way in bundle.ways},
        "profile": {name: shapes._asdict() for name, shapes in bundle.profile.items()},
        "inputs": list(samples[0].feed) if samples else [],
        "layers": [asdict(layer) for layer in bundle.layers],
        "outputs": [asdict(output) for output in outputs],
        "golden": [f"golden/sample-{index}.npz" for index in range(len(samples))],
        "golden_outputs": list(samples[0].delivered) if samples else [],
        "files": {record.name: record.sha256 for record in (file_record(file, folder) for file in sorted(files))},
    }
    return printable_json(json.dumps(plain(table), indent=2, ensure_ascii=False, allow_nan=False)) + "\n"


def readme(bundle: Bundle, names: Sequence[str]) -> str:
    """The text of ``README.md``, for a folder with files of these names."""
    ways = bundle.ways
    optimum = ",".join(spec(name, shapes.opt) for name, shapes in bundle.profile.items())
    shapes = f" {shell_word(f'--shapes={optimum}')}" if optimum else ""
    ready = [name for name in names if name.endswith(".plan")]
    return template("README.md.j2").render(
        target=bundle.target.canonical_name,
        tensorrt=bundle.platform.tensorrt,
        tool=TOOLS[bundle.platform.product],
        plan=ready[0] if ready else ways[0].plan,
        shapes=shapes,
        ready=bool(ready),
        half=has_half_concats(bundle.models[bundle.platform.typing[0]]),
        models=list(bundle.model_files.values()),
        others=" or ".join(_option(way) for way in ways[1:]),
        command=usual_command(ways[0], bundle.platform),
        files=[*((name, _what(name)) for name in names if not name.startswith("golden/")), *_rest(names)],
    )


def _way(way: Way) -> dict[str, Any]:
    return {
        "model": way.model,
        "plan": way.plan,
        "flags": [BUILDER_FLAGS[dtype] for dtype in way.types],
        "strong": way.name == "strong",
        "calibration": CALIBRATION if way.name == "dla" else None,
    }


def _option(way: Way) -> str:
    return "--dla 0" if way.name == "dla" else f"--typing {way.name}"


def _what(name: str) -> str:
    if name.endswith(".plan"):
        return f"an engine, built ahead of time for GPUs of {name.removesuffix('.plan').rpartition('-')[2].upper()}"
    return WHAT.get(name, "weights of the model")


def _rest(names: Sequence[str]) -> list[tuple[str, str]]:
    golden = any(name.startswith("golden/") for name in names)
    samples = [("golden/", "samples and what ONNX Runtime makes of them")] if golden else []
    return [*samples, ("expected.json", "what was expected: layers, outputs, checksums")]
