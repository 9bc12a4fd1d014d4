"""What tests of bundles share: bundles of a small network, and fakes of the tools of each TensorRT generation."""

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from graphpress.backends.tensorrt.bundle.bundle import Bundle, complete_bundle, expected_precisions, write_models
from graphpress.backends.tensorrt.platform import platform_of
from graphpress.backends.tensorrt.profiles import profile_of
from graphpress.data import shapes_of
from graphpress.ir import clone
from graphpress.ir.qdq import materialize_qdq
from graphpress.manager.contract import Context
from graphpress.manager.prepare import prepare
from graphpress.models import build
from graphpress.passes.quantize.quantize import Quantize
from graphpress.targets import load_target

FEED = {"input": np.random.default_rng(0).normal(size=(4, 3, 16, 16)).astype(np.float32)}

ALWAYS = (
    "--onnx=<file>",
    "--minShapes=spec",
    "--optShapes=spec",
    "--maxShapes=spec",
    "--memPoolSize=poolspec",
    "--profilingVerbosity=mode",
    "--sparsity=spec",
    "--saveEngine=<file>",
    "--loadEngine=<file>",
    "--timingCacheFile=<file>",
    "--shapes=spec",
    "--loadInputs=spec",
    "--iterations=N",
    "--warmUp=N",
    "--duration=N",
    "--exportOutput=<file>",
    "--exportLayerInfo=<file>",
)
CALIBRATED = ("--minShapesCalib=spec", "--optShapesCalib=spec", "--maxShapesCalib=spec", "--calib=<file>")
WEAK = ("--fp16", "--int8", *CALIBRATED, "--useDLACore=N", "--allowGPUFallback")
LISTED = {
    "8.5": ("v8502", (*ALWAYS, *WEAK, "--workspace=N", "--buildOnly")),
    "8.6": ("v8602", (*ALWAYS, *WEAK, "--fp8", "--skipInference")),
    "10.3": ("v100300", (*ALWAYS, *WEAK, "--bf16", "--fp8", "--int4", "--stronglyTyped", "--skipInference")),
    "10.13": ("v101300", (*ALWAYS, *WEAK, "--bf16", "--fp8", "--int4", "--stronglyTyped", "--skipInference")),
    "11.4": ("v11.4.1.5", (*ALWAYS, "--useDLACore=N", "--allowGPUFallback", "--skipInference")),
    "nameless": ("", ALWAYS),
}
"""What the banner of trtexec calls each version, and what its help lists (from NVIDIA's sources of 8.x and the printed
help of 8.6 and 10.5; of 11.x that the flags for precision are gone)."""

TOOL = """#!/usr/bin/env bash
# Answers --help, rejects what that does not list, and writes what it is told to.
{banner}
help() {{ cat <<'END'
=== Build Options ===
{help}
                              --calibrateOnFridays is not allowed and --stronglyTypedToo is mentioned only here
END
}}
[ "$1" = --help ] && {{ help; exit 0; }}
for argument in "$@"; do
    option=${{argument%%=*}} value=${{argument#*=}}
    case ' {options} ' in *" $option "*) ;; *) echo "[E] Unknown option: $option"; exit 1 ;; esac
    case $option in
    --onnx | --calib) [ -s "$value" ] || {{ echo "[E] Could not open $value"; exit 1; }} ;;
    --saveEngine) plan=$value ;;
    --timingCacheFile) cat "$value" 2>/dev/null >>"$TRTEXEC_LOG" || true; echo timed >>"$value" ;;
    --exportLayerInfo) echo '{{"Layers": []}}' >"$value" ;;
    --loadInputs) [ -z "${{TRTEXEC_KEEPS:-}}" ] || cp "${{value#*:}}" "$TRTEXEC_KEEPS" ;;
    --exportOutput) cp "$TRTEXEC_OUTPUT" "$value" ;;
    esac
    [ "$option" != --calib ] || sed -n 1p "$value" >>"$TRTEXEC_LOG"
done
[ -z "${{TRTEXEC_FAILS:-}}" ] || {{ echo "[E] Engine could not be created from network"; exit 1; }}
[ -z "${{plan:-}}" ] || echo engine >"$plan"
echo "$@" >>"$TRTEXEC_LOG"
"""


def tool_text(generation: str) -> str:
    """The source of a fake trtexec."""
    version, options = LISTED[generation]
    banner = f"echo '&&&& RUNNING TensorRT.trtexec [TensorRT {version}] [b26] #' \"$0 $*\"" if version else "true"
    names = " ".join(["--help", *(option.partition("=")[0] for option in options)])
    lines = "\n".join(f"  {option:28}what it does" for option in options)
    return TOOL.format(banner=banner, help=lines, options=names)


def quantized(target):
    """A network of eight layers, and the same with the target's encodings."""
    network = build("resnet", depth=8, stem="cifar", width=8, image=16, batch_norm=False)
    prepare(network, {})
    annotated = clone(network)
    Quantize().run(annotated, Context(target=target, original=network, calibration=[FEED]))
    return network, annotated


def make_bundle(text: str) -> Bundle:
    """A bundle for a target, as it is written on the command line."""
    target = load_target(text)
    platform = platform_of(target)
    network, annotated = quantized(target)
    legal = clone(annotated)
    materialize_qdq(legal)
    return Bundle(
        target=target,
        platform=platform,
        models=dict.fromkeys(platform.typing, legal) | ({"float": network} if platform.dla else {}),
        annotated=annotated,
        simulated=legal,
        profile=profile_of(annotated, {}, [shapes_of(FEED)]),
        samples=[FEED],
        layers=expected_precisions(annotated),
    )


def write_bundle(folder: Path, bundle: Bundle) -> list[Path]:
    """Write the whole folder; no engine is built."""
    return complete_bundle(folder, bundle, [file for files in write_models(folder, bundle).values() for file in files])


@pytest.fixture(name="write_bundle", scope="session")
def a_write_bundle():
    return write_bundle


@pytest.fixture(scope="session")
def bundles():
    """Bundles by target, made once."""
    made = {}

    def make(text: str) -> Bundle:
        if text not in made:
            made[text] = make_bundle(text)
        return made[text]

    return make


@pytest.fixture
def written(bundles, tmp_path):
    """Write the bundle of a target into a folder whose name has a blank."""

    def write(text: str) -> Path:
        folder = tmp_path / "a folder"
        folder.mkdir()
        write_bundle(folder, bundles(text))
        return folder

    return write


@pytest.fixture
def tool(tmp_path):
    """Put a fake trtexec into a folder of its own, and return it."""

    def put(generation: str) -> Path:
        file = tmp_path / f"TensorRT {generation}" / "trtexec"
        file.parent.mkdir(exist_ok=True)
        file.write_text(tool_text(generation.partition(" ")[0]))
        file.chmod(0o755)
        return file

    return put


@pytest.fixture
def shell(tmp_path):
    """Run ``build.sh`` of a folder, with nothing in the path but the system's tools and what is given."""
    if shutil.which("bash") is None:
        pytest.skip("needs bash")

    def run(folder: Path, *arguments: str, trtexec: Path | None = None, cwd: Path | None = None, **variables: str):
        path = os.pathsep.join([*([str(trtexec.parent)] if trtexec else []), "/usr/bin", "/bin"])
        environment = {"PATH": path, "TRTEXEC_LOG": str(tmp_path / "trtexec.log"), **variables}
        return subprocess.run(
            ["bash", str(folder / "build.sh"), *arguments],
            env=environment,
            cwd=cwd or tmp_path,
            capture_output=True,
            text=True,
        )

    return run
