"""Kernels of our own against ONNX Runtime and OpenVINO: one image, one and two threads.

    pip install -r benchmarks/tvm-requirements.txt
    python benchmarks/tvm.py [--models resnet18 bert ...] [--precisions float32 int8] [--threads 1 2] [--tuning quick]
    GRAPHPRESS_DATA=... python benchmarks/tvm.py --models real

Each model is made twice by `optimize --backend tvm`: once without passes that change numbers, once in int8. A model
that is refused is a row with the reason. Times are medians of calls with arrays in and out, in milliseconds, of two
kinds:

interleaved   all in one process that takes turns; nobody's threads spin
alone         each in a process of its own, alternating, as it is by default

Where ours takes longer than a peer, a row names the kernels that take most of its time, with their share of what the
processor can do.

OpenVINO computes float32 in float32 (by default it would be bfloat16 here) and int8 as NNCF quantizes it, on the same
samples. With one thread `--clock cpu` times the processor in place of the clock: a busy machine disturbs that less.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

# The folder of a script comes first in the search path, where this file would hide the package of the same name.
sys.path.append(sys.path.pop(0))

import numpy as np

from graphpress.data import synthetic_samples
from graphpress.ir import save
from graphpress.models import build
from graphpress.runtime import Session

Feed = dict[str, np.ndarray]


@dataclass(frozen=True)
class Network:
    """A model of the table.

    Args:
        family: of ``graphpress.models``; empty for a file of ``GRAPHPRESS_DATA``.
        sizes: of the family.
        shapes: of inputs that are open behind the batch.
        transformer: as NNCF asks.
    """

    family: str
    sizes: dict[str, Any] = field(default_factory=dict)
    shapes: dict[str, str] = field(default_factory=dict)
    transformer: bool = False


IMAGE = {"image": 224, "classes": 1000}
MODELS = {
    "resnet18": Network("resnet", {"depth": 18, "width": 64, **IMAGE}),
    "resnet50": Network("resnet", {"depth": 50, "width": 64, **IMAGE}),
    "mobilenet_v2": Network("mobilenet_v2", {"multiplier": 1.0, **IMAGE}),
    "bert": Network(
        "bert",
        {"layers": 4, "width": 256, "heads": 4, "vocabulary": 1000, "longest": 128, "sequence": 128},
        transformer=True,
    ),
    "efficientnet": Network("efficientnet", {"multiplier": 1.0, **IMAGE}),
    "densenet": Network("densenet", {"blocks": (6, 12, 24, 16), "growth": 32, "stem": 64, **IMAGE}),
    "squeezenet": Network("squeezenet", {"width": 64, **IMAGE}),
    "mobilenet_v3": Network("mobilenet_v3", {"multiplier": 1.0, **IMAGE}),
    "shufflenet": Network("shufflenet", {"blocks": (4, 8, 4), "width": 116, **IMAGE}),
    "regnet": Network("resnext", {"blocks": (2, 4, 10), "width": 64, "groups": 8, **IMAGE}),
    "unet": Network("unet", {"levels": 4, "width": 32, "image": 128}),
    "yolo": Network("yolo", {"width": 32, "image": 320, "classes": 80}),
    "ssd": Network("detector", {"width": 64, "image": 320, "classes": 80}),
    "vit": Network("vit", {"layers": 6, "width": 192, "heads": 3, "patch": 16, **IMAGE}, transformer=True),
    "swin": Network("swin", {"blocks": (2, 2, 6), "width": 96, "heads": 3, "window": 7, **IMAGE}, transformer=True),
    "convnext": Network("convnext", {"blocks": (3, 3, 9), "width": 96, **IMAGE}),
    "conformer": Network(
        "conformer", {"layers": 4, "width": 144, "heads": 4, "features": 80, "frames": 128}, transformer=True
    ),
}
REAL = (
    "basic_pitch_nmp", "blazeface", "mnist_opt", "mobilenet_v1_0.25_224", "pnet", "resnet20_cifar10",
    "resnet32_cifar10", "rnet", "superres_core", "yunet_n_320_320",
)  # fmt: skip
RECIPES = {"float32": "fuse", "int8": "int8"}
OURS, PEERS = "tvm", ("onnxruntime", "openvino")
WAYS = ("interleaved", "alone")
SAMPLES, ALTERNATIONS, SLOWEST = 8, 3, 5


# -- what is compared -----------------------------------------------------------------------------------------------


def prepare(name: str, folder: Path) -> None:
    """The model's file and samples, of one image each, in a folder."""
    network = MODELS.get(name)
    if network is None:
        source = Path(os.environ["GRAPHPRESS_DATA"]) / f"{name}.onnx"
        (folder / "original.onnx").write_bytes(source.read_bytes())
    else:
        save(build(network.family, **network.sizes), folder / "original.onnx")
    samples = list(synthetic_samples(Session(folder / "original.onnx", threads=1).inputs, SAMPLES, seed=0))
    np.savez(folder / "samples.npz", **{key: np.concatenate([feed[key] for feed in samples]) for key in samples[0]})


def compile_ours(folder: Path, precision: str, threads: int, tuning: str) -> str:
    """Compile into ``folder / precision``; why that is impossible, or an empty text."""
    with np.load(folder / "samples.npz") as samples:
        shapes = [f"{name}={'x'.join(map(str, (1, *samples[name].shape[1:])))}" for name in samples]
    words = [sys.executable, "-m", "graphpress", "./original.onnx", "--backend", "tvm", "--data", "samples.npz"]
    words += ["--recipe", RECIPES[precision], "--max-drop", "none", "--allow-worse", "--output", precision]
    words += ["--threads", str(threads), "--tuning", tuning, "--cache-dir", "cache", "--quiet"]
    words += [word for shape in shapes for word in ("--input-shape", shape)]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)
    if (folder / precision / "libmodel.so").is_file():
        return ""
    lines = [line for line in done.stderr.splitlines() if line.strip()] or ["it says nothing"]
    return next((line for line in lines if line.startswith("error")), lines[-1])[:160]


def quantize_theirs(folder: Path, transformer: bool) -> None:
    """OpenVINO's int8 model, by NNCF, in ``folder / "nncf.xml"``."""
    import nncf
    import openvino

    kind = {"model_type": nncf.ModelType.TRANSFORMER} if transformer else {}
    model = nncf.quantize(static_model(folder, feed_of(folder)), nncf.Dataset(feeds_of(folder)), **kind)
    openvino.save_model(model, folder / "nncf.xml", compress_to_fp16=False)


def static_model(folder: Path, feed: Feed) -> Any:
    """OpenVINO's reading of the original, of fixed shapes, as ours has them."""
    import openvino

    model = openvino.convert_model(folder / "original.onnx")
    model.reshape({name: list(array.shape) for name, array in feed.items()})
    return model


def feeds_of(folder: Path) -> list[Feed]:
    with np.load(folder / "samples.npz") as samples:
        arrays = dict(samples)
    return [{name: array[i : i + 1] for name, array in arrays.items()} for i in range(SAMPLES)]


def feed_of(folder: Path) -> Feed:
    return feeds_of(folder)[0]


# -- who is timed -----------------------------------------------------------------------------------------------------


def open_tvm(folder: Path, precision: str, threads: int, spinning: bool) -> Callable[[Feed], Any]:
    """Our threads wait for a few microseconds, however that is set."""
    import graphpress.runtime

    return graphpress.runtime.load(folder / precision, threads=threads).run


def open_onnxruntime(folder: Path, precision: str, threads: int, spinning: bool) -> Callable[[Feed], Any]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    if not spinning:
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    file = str(folder / precision / "model.onnx")
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    return lambda feed: session.run(None, feed)


def open_openvino(folder: Path, precision: str, threads: int, spinning: bool) -> Callable[[Feed], Any]:
    import openvino

    model = folder / "nncf.xml" if precision == "int8" else static_model(folder, feed_of(folder))
    settings = {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1, "PERFORMANCE_HINT": "LATENCY"}
    settings["INFERENCE_PRECISION_HINT"] = "f32"
    request = openvino.Core().compile_model(model, "CPU", settings).create_infer_request()
    return lambda feed: list(request.infer(feed).values())


OPENERS = {"tvm": open_tvm, "onnxruntime": open_onnxruntime, "openvino": open_openvino}


def opened(given: argparse.Namespace, alone: bool) -> Iterator[tuple[str, Callable[[Feed], Any]]]:
    """Those that take the model; that a peer does not is a result, too."""
    for name in given.time:
        try:
            yield name, OPENERS[name](given.folder, given.precision, given.threads[0], alone)
        except Exception as error:
            print(f"{name}: {type(error).__name__}: {error}", file=sys.stderr)


def time_here(given: argparse.Namespace) -> dict[str, float]:
    """Medians in milliseconds, of turns in this process."""
    feed, clock = feed_of(given.folder), time.process_time if given.clock == "cpu" else time.perf_counter
    alone = len(given.time) == 1
    runs = dict(opened(given, alone))
    times: dict[str, list[float]] = {name: [] for name in runs}
    for run in runs.values():
        run(feed)
    end = time.monotonic() + given.seconds * len(runs)
    while time.monotonic() < end or min(map(len, times.values()), default=5) < 5:
        for name, run in runs.items():
            run(feed)  # the others have been in the caches
            for _ in range(3):
                began = clock()
                run(feed)
                times[name].append(clock() - began)
    return {name: 1e3 * median(each) for name, each in times.items()}


def in_process(names: Sequence[str], folder: Path, precision: str, threads: int, given: argparse.Namespace) -> Any:
    """What ``time_here`` says in a process of its own; nothing where that dies."""
    words = [sys.executable, __file__, "--folder", str(folder), "--precisions", precision, "--time", *names]
    words += ["--threads", str(threads), "--seconds", str(given.seconds), "--clock", given.clock]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    return json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else {}


def measure(way: str, names: Sequence[str], *where: Any) -> dict[str, float]:
    """Milliseconds by name."""
    if way == "interleaved":
        return dict(in_process(names, *where))
    times: dict[str, list[float]] = {}
    for _ in range(ALTERNATIONS):
        for name in names:
            for key, value in in_process([name], *where).items():
                times.setdefault(key, []).append(value)
    return {name: median(each) for name, each in times.items()}


# -- the table --------------------------------------------------------------------------------------------------------


def rows(name: str, folder: Path, given: argparse.Namespace) -> Iterator[str]:
    """Lines of the table for one model."""
    prepare(name, folder)
    network = MODELS.get(name, Network(""))
    for precision in given.precisions:
        if why := compile_ours(folder, precision, max(given.threads), given.tuning):
            yield f"| {name} | {precision} | | {why.replace('|', '/')} | | | | | |"
            continue
        peers = [peer for peer in PEERS if find_spec(peer) is not None]
        if "openvino" in peers and precision == "int8" and not has_theirs(folder, network):
            peers.remove("openvino")
        for threads in given.threads:
            for way in given.ways:
                times = measure(way, [OURS, *peers], folder, precision, threads, given)
                yield line(f"| {name} | {precision} | {threads} | {way}", times)
                if any(times.get(OURS, 0.0) > times[peer] for peer in times):
                    yield f"| {name} | {precision} | | {slowest(folder / precision)} | | | | | | |"


def has_theirs(folder: Path, network: Network) -> bool:
    """Whether NNCF quantizes the model; it may fail, which is a result, too."""
    if find_spec("nncf") is None:
        return False
    try:
        quantize_theirs(folder, network.transformer)
    except Exception as error:
        print(f"nncf: {type(error).__name__}: {error}", file=sys.stderr)
    return (folder / "nncf.xml").is_file()


def slowest(folder: Path) -> str:
    """The kernels that take most of a run: their share of it, and of the arithmetic that a core can do."""
    kernels = json.loads((folder / "report.json").read_text(encoding="utf-8"))["kernels"]
    total = sum(kernel["seconds"] for kernel in kernels)
    worst = sorted(kernels, key=lambda kernel: -kernel["seconds"])[:SLOWEST]
    return "; ".join(
        f"{kernel['kernel']} {kernel['shape']}: {kernel['seconds'] / total:.0%}"
        + (f", at {kernel['peak_share']:.0%} of the peak" if kernel["peak_share"] else "")
        for kernel in worst
    )


def line(head: str, times: dict[str, float]) -> str:
    """Milliseconds, ratios and the load of the machine."""
    ours = times.get(OURS)
    cells = [f"{times[name]:.2f}" if name in times else "–" for name in (OURS, *PEERS)]
    cells += [f"{ours / times[peer]:.2f}" if ours and peer in times else "–" for peer in PEERS]
    return f"{head} | {' | '.join(cells)} | {os.getloadavg()[0]:.1f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", choices=[*MODELS, *REAL, "real"], default=list(MODELS))
    parser.add_argument("--precisions", nargs="+", choices=list(RECIPES), default=list(RECIPES))
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--tuning", choices=["rules", "quick", "deep"], default="rules")
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall")
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--time", nargs="+", choices=list(OPENERS), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.time:
        given.precision = given.precisions[0]
        print(json.dumps(time_here(given)))
        return
    print("| model | precision | threads | | ours, ms | ONNX Runtime | OpenVINO | ours / ORT | ours / OV | load |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for name in (name for each in given.models for name in (REAL if each == "real" else (each,))):
        with tempfile.TemporaryDirectory() as folder:
            for text in rows(name, Path(folder), given):
                print(text, flush=True)


if __name__ == "__main__":
    main()
