"""Pruning and low rank that share a goal, against either alone, on a ResNet-20.

GRAPHPRESS_DATA=… python benchmarks/prune_lowrank.py --kept 0.474 0.25 --seeds 0 1 2
GRAPHPRESS_DATA=… python benchmarks/prune_lowrank.py --recovery "distill{steps=300}"

Each seed looks at 512 other training images. Judged are top-1 on the 500 test images, and on the training images that
were not looked at top-1 and the divergence from the original's answers (KL, which resolves more).
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

import numpy as np

from graphpress import optimize
from graphpress.data import load_dataset
from graphpress.evaluation.sensitivity import DamageMeasure
from graphpress.ir import load
from graphpress.runtime import Session

DATA = Path(os.environ["GRAPHPRESS_DATA"])
MODEL = DATA / "resnet20_cifar10.onnx"
IMAGES = DATA / "cifar10_lossless_train5292_test500.npz"
LOOKED_AT = 512
PIPELINES = {"prune": "prune{{{goal}}}", "lowrank": "lowrank{{{goal}}}", "together": "prune,lowrank{{{goal}}}"}
PREPROCESS = {
    "input": {
        "layout": "NHWC", "scale": 1 / 255, "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225],
    }
}  # fmt: skip


def part(images: str, labels: str, places: list[int]) -> dict:
    """Some images with their labels, as a part of a data file."""
    return {"source": str(IMAGES), "inputs": {"input": images}, "labels": labels, "slice": places}


def judges(seed: int) -> dict[str, tuple[np.ndarray, DamageMeasure]]:
    """Labels, and what the original answers, on the images that judge."""
    first, count = seed * LOOKED_AT, len(np.load(IMAGES)["y_train"])
    parts = {"test": [part("x_test", "y_test", [0, 500])]}
    parts["more"] = [
        part("x_train", "y_train", places)
        for places in ([0, first], [first + LOOKED_AT, count])
        if places[0] < places[1]
    ]
    session, known = Session(MODEL), {}
    for name, slices in parts.items():
        sets = [
            load_dataset({"evaluation": one, "preprocess": PREPROCESS}, session.inputs).evaluation for one in slices
        ]
        feeds = [feed for samples in sets for feed in samples]
        labels = np.concatenate([np.ravel(samples.labels) for samples in sets])
        known[name] = labels, DamageMeasure.of(session, feeds)
    return known


def top1(run: Session, labels: np.ndarray, measure: DamageMeasure) -> float:
    """Share of the images that are recognized."""
    answers = np.concatenate([run(feed)[measure.classes].argmax(1) for feed in measure.feeds])
    return float((answers == labels).mean())


def measured(passes: str, seed: int, known: dict) -> str:
    """A row of the table."""
    data = {
        "calibration": part("x_train", "y_train", [seed * LOOKED_AT, (seed + 1) * LOOKED_AT]),
        "evaluation": part("x_test", "y_test", [0, 500]), "preprocess": PREPROCESS,
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        result = optimize(
            MODEL, data=data, metric="top1", max_drop=None, allow_worse=True, passes=passes, seed=seed, threads=1,
            output=Path(folder) / "out", backend="onnxruntime",
        )  # fmt: skip
        seconds, run = time.perf_counter() - began, Session(result.output / "model.onnx")
        scores = [top1(run, *judge) for judge in known.values()]
        divergence = known["more"][1].damage(load(result.output / "model.onnx"))
        notes = [note for record in result.report.passes for note in record.notes if "was carried out" in note]
        share = notes[0].split("; ")[-1].removesuffix(" was carried out") if "," in passes and notes else ""
        kept = result.report.result.macs / result.report.baseline.macs
    return f"{kept:.3f} | {scores[0]:.3f} | {scores[1]:.4f} | {divergence:.4f} | {seconds:.0f} s | {share} |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kept", nargs="*", type=float, default=[0.474, 0.25])
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2])
    parser.add_argument("--recovery", default="", help="passes behind it")
    parser.add_argument("--only", nargs="*", choices=list(PIPELINES), default=list(PIPELINES))
    args = parser.parse_args()
    print(
        "| seed | by | MACs | top-1 (500) | top-1 (4,780 more) | KL | time | shares |\n" + "|---" * 8 + "|", flush=True
    )
    for kept in args.kept:
        for seed in args.seeds:
            known = judges(seed)
            for name in args.only:
                passes = ",".join(filter(None, [PIPELINES[name].format(goal=f"macs_kept={kept}"), args.recovery]))
                print(f"| {seed} | {name} | {measured(passes, seed, known)}", flush=True)


if __name__ == "__main__":
    main()
