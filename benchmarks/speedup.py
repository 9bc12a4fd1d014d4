"""Speed-ups requested and measured, alone and with int8; and what a pruned MobileNet still agrees with.

    GRAPHPRESS_DATA=... python benchmarks/speedup.py [--threads 2] [--minutes 4]

ResNets have random weights: speed does not depend on them. For each, every ratio is paired and interleaved against the
model named in the column, after everything has been written to files. MobileNetV1-0.25 is the trained one; every second
of the 500 images is there for recovery, without its label; the others measure top-1 and agreement with the original.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from graphpress import optimize
from graphpress.data import load_dataset
from graphpress.evaluation import evaluate, resolve_metric
from graphpress.ir import save
from graphpress.models import build
from graphpress.runtime import Session, compare_latency

DATA = Path(os.environ.get("GRAPHPRESS_DATA", ""))
RESNETS = ((18, 1.5), (18, 2.0), (50, 2.0))


def ratio(baseline: Path, candidate: Path, feed: dict[str, np.ndarray], threads: int) -> str:
    """How many times as fast as the baseline the candidate is, with its interval."""
    first, second = Session(baseline, threads=threads), Session(candidate, threads=threads)
    timing = compare_latency(lambda: first.run(feed), lambda: second.run(feed), seconds=6)
    return f"{1 / timing.ratio:.2f}x ({1 / timing.high:.2f} to {1 / timing.low:.2f})"


def compiled(model: Path, passes: str, out: Path, **options: Any) -> Path:
    """The delivered model of this pipeline."""
    result = optimize(model, passes=passes, output=out, max_drop=None, allow_worse=True, **options)
    return result.output / "model.onnx"


def resnets(threads: int, folder: Path) -> None:
    """Requested and measured, in float and behind int8."""
    print("| model | threads | requested | pruned against the original | pruned int8 against int8 |")
    print("|---|---|---|---|---|")
    data = {"x": np.random.default_rng(0).normal(size=(8, 3, 224, 224)).astype(np.float32)}
    for depth, requested in RESNETS:
        model = folder / f"resnet{depth}.onnx"
        save(build("resnet", depth=depth, width=64, image=224, classes=1000), model)
        name = Session(model).inputs[0].name
        np.savez(folder / "images.npz", **{name: data["x"]})
        feed = {name: data["x"][:1]}
        about = {"threads": threads, "data": {"calibration": folder / "images.npz"}}
        prune = f"prune{{speedup={requested}}}"
        files = [
            compiled(model, passes, folder / f"{depth}-{requested}-{index}", **about)
            for index, passes in enumerate((prune, "cleanup,fuse,quantize", f"{prune},fuse,quantize"))
        ]
        cells = [ratio(model, files[0], feed, threads), ratio(files[1], files[2], feed, threads)]
        print(f"| ResNet-{depth} | {threads} | {requested}x | {' | '.join(cells)} |", flush=True)


def mobilenet(threads: int, minutes: float, folder: Path) -> None:
    """Agreement before and after each recovery, at 1.5 times the speed."""
    model = DATA / "mobilenet_v1_0.25_224.onnx"
    spec = (DATA / "imagenet500.yaml").read_text().replace("source: ", f"source: {DATA}/")
    calibration, evaluation = spec.split("evaluation:")
    spec = calibration.replace("[0, 500, 4]", "[0, 500, 2]") + "evaluation:" + evaluation
    spec = spec.replace('labels: {from_name: "^(\\\\d+)_"}', 'labels: {from_name: "^(\\\\d+)_"}\n  slice: [1, 500, 2]')
    (folder / "data.yaml").write_text(spec)
    original = Session(model, threads=threads)
    samples = load_dataset(folder / "data.yaml", original.inputs).evaluation
    assert samples is not None
    top1, agreement = resolve_metric("top1", has_labels=True), resolve_metric("agreement", has_labels=False)
    feed = {spec.name: next(iter(samples))[spec.name][:1] for spec in original.inputs}
    print("| stage | speed | top-1 | agreement |\n|---|---|---|---|")
    print(f"| original | 1x | {evaluate(original, samples, top1).value:.3f} | 1.000 |")
    prune = "prune{speedup=1.5,criterion=taylor}"
    for stage in (prune, f"{prune},reconstruct", f"{prune},reconstruct,distill{{minutes={minutes}}}"):
        file = compiled(model, stage, folder / str(len(stage)), threads=threads, data=folder / "data.yaml")
        session = Session(file, threads=threads)
        scores = [evaluate(session, samples, metric, original).value for metric in (top1, agreement)]
        print(f"| {stage} | {ratio(model, file, feed, threads)} | {scores[0]:.3f} | {scores[1]:.3f} |", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--minutes", type=float, default=4.0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        mobilenet(given.threads, given.minutes, Path(scratch))
        resnets(given.threads, Path(scratch))
