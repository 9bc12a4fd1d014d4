"""The folder that is copied to a device: a model in the forms it needs, a script to build it, a check that it is right.

    model.onnx                 in the typing that the platform prefers; what was measured in ONNX Runtime
    model-weak.onnx            for the platform's second way of typing, where it has one
    model-float.onnx           for the deep learning accelerator, with calibration.cache
    build.sh, build_engine.py  build the engine on the device, through the command-line tool or the Python package
    verify.py                  checks it there against expected.json and golden/; run_engine.py and engine.py run it
    README.md                  the commands

The last file written, expected.json, holds the checksums of all others.
"""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Sequence
from pathlib import Path

from graphpress.analysis.shapes import with_inner_shapes
from graphpress.backends.tensorrt.bundle.calibration import calibration_cache
from graphpress.backends.tensorrt.bundle.commands import CALIBRATION, LAYERS, TIMING_CACHE
from graphpress.backends.tensorrt.bundle.contents import Bundle, Form
from graphpress.backends.tensorrt.bundle.expected import expected_json, readme
from graphpress.backends.tensorrt.bundle.expected_precisions import ExpectedPrecision, expected_precisions, types_of
from graphpress.backends.tensorrt.bundle.golden import MAX_SAMPLES, Golden, expected_outputs, few, portions
from graphpress.backends.tensorrt.bundle.script import build_script
from graphpress.data import Feed
from graphpress.ir import Model, clone, copy_model, forget_inner_types, save
from graphpress.runtime import Session

__all__ = [
    "Bundle",
    "ExpectedPrecision",
    "Form",
    "complete_bundle",
    "expected_precisions",
    "write_models",
]

SCRIPTS = ("build_engine.py", "run_engine.py", "verify.py", "engine.py")
FILES = (*SCRIPTS, "build.sh", "README.md", "expected.json", "golden", CALIBRATION, TIMING_CACHE, LAYERS, "built.json")
"""What is written beside the models, here or on the device."""
DEVICE = Path(__file__).parents[1] / "device"


def complete_bundle(out: Path, bundle: Bundle, models: Sequence[Path]) -> list[Path]:
    """Write what goes with the models that lie in the folder already. The same bundle gives the same bytes.

    Returns:
        The files, ``model.onnx`` and its data first.

    Raises:
        ModelError: ONNX Runtime cannot run the simulation.
        DataError: a sample does not fit the model.
    """
    samples = _golden(bundle)
    files = [*models, *_write_golden(out, samples), *_write_scripts(out, bundle)]
    outputs = expected_outputs(samples, types_of(bundle.annotated), dla=bundle.platform.dla)
    page, manifest = out / "README.md", out / "expected.json"
    page.write_text(readme(bundle, [file.relative_to(out).as_posix() for file in files]), encoding="utf-8")
    manifest.write_text(expected_json(bundle, samples, outputs, [*files, page]), encoding="utf-8")
    return [*files, page, manifest]


def write_models(out: Path, bundle: Bundle) -> dict[Form, list[Path]]:
    """Write every form of the model with what goes with it: its data, the calibration cache. The first one comes first.

    Returns:
        By form its files, the model first.

    Raises:
        ModelError: a model is too large for its format.
    """
    files: dict[Form, list[Path]] = {}
    for form, name in bundle.model_files.items():
        if bundle.unchanged and not files:
            files[form] = copy_model(bundle.unchanged, out, (*FILES, *bundle.model_files.values()))
            continue
        model = clone(bundle.models[form])
        forget_inner_types(model)
        files[form] = save(with_inner_shapes(model) if bundle.inner_shapes else model, out / name)
    if "float" in bundle.models:
        text = calibration_cache(bundle.models["float"], bundle.annotated, bundle.platform.tensorrt)
        (out / CALIBRATION).write_text(text, encoding="utf-8")
        files["float"].append(out / CALIBRATION)
    return files


def _golden(bundle: Bundle) -> list[Golden]:
    if not bundle.samples:
        return []
    pieces = (part for feed in bundle.samples[:MAX_SAMPLES] for part in portions(feed, bundle.profile))
    feeds = list(itertools.islice(pieces, MAX_SAMPLES))
    delivered = _results(bundle.simulated, feeds, bundle.threads)
    original = _results(bundle.annotated, feeds, bundle.threads)  # annotations do not change what a graph computes
    return few([Golden(*arrays) for arrays in zip(feeds, delivered, original, strict=True)])


def _results(model: Model, feeds: Sequence[Feed], threads: int) -> list[Feed]:
    """What ONNX Runtime makes of each; its session is given up before another is opened, for it holds the weights."""
    session = Session(model, threads=threads)
    return [session.run(feed) for feed in feeds]


def _write_golden(out: Path, samples: Sequence[Golden]) -> list[Path]:
    files = [out / "golden" / f"sample-{index}.npz" for index in range(len(samples))]
    for file, sample in zip(files, samples, strict=True):
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(sample.packed())
    return files


def _write_scripts(out: Path, bundle: Bundle) -> list[Path]:
    script = out / "build.sh"
    script.write_text(build_script(bundle.target, bundle.platform, bundle.ways), encoding="utf-8")
    script.chmod(0o755)
    sources = [DEVICE / name for name in SCRIPTS]
    return [script, *(Path(shutil.copyfile(source, out / source.name)) for source in sources)]
