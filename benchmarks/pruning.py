"""Structured pruning of the CIFAR-10 ResNets: top-1 per criterion, before recovery and after each.

    GRAPHPRESS_DATA=... python benchmarks/pruning.py --models resnet20 --factors 2.11 --criteria l2,fpgm --minutes 2
    GRAPHPRESS_DATA=... python benchmarks/pruning.py --table results.jsonl

Recovery sees the 15,292 train images (5,292 exact, 10,000 JPEG) without their labels; nothing sees a test image before
the end. ``exact`` is the top-1 on the 500 exact test images; ``jpeg`` the one on the 4,500 re-compressed ones, on which
every model loses about ten points: compare it with the float model's on the same images. Each line of the results is
one JSON object, written as soon as it is known.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from graphpress.analysis.cost import model_cost
from graphpress.backends.onnxruntime.backend import OnnxRuntimeBackend
from graphpress.data import Samples, load_dataset
from graphpress.evaluation import evaluate, resolve_metric
from graphpress.ir import Model, clone, load
from graphpress.manager.contract import Context, Pass
from graphpress.manager.evaluator import NoEvaluator
from graphpress.manager.manager import Manager
from graphpress.manager.recipe import from_name
from graphpress.manager.transaction import Transaction
from graphpress.passes.prune.criteria import criterion_names
from graphpress.passes.prune.prune import Prune
from graphpress.passes.recovery.reconstruct import Reconstruct
from graphpress.passes.training.distill import Distill
from graphpress.runtime import Session
from graphpress.targets import load_target

DATA = Path(os.environ.get("GRAPHPRESS_DATA", ""))
MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
FACTORS = (1.5, 2.11, 2.57)


def train_images(folder: Path, input_name: str) -> Path:
    """All train images, preprocessed, as one file."""
    exact = np.load(DATA / "cifar10_lossless_train5292_test500.npz")["x_train"]
    exact = ((exact / 255 - MEAN) / STD).transpose(0, 3, 1, 2).astype(np.float32)
    inputs = Session(DATA / "resnet20_cifar10.onnx").inputs
    spec = (DATA / "cifar10_jpeg.yaml").read_text().replace("slice: [0, 10000, 20]", "slice: [0, 10000]")
    (folder / "jpeg.yaml").write_text(spec.replace("source: ", f"source: {DATA}/"))
    jpeg = load_dataset(folder / "jpeg.yaml", inputs).calibration
    assert jpeg is not None
    images = [exact, *(feed[inputs[0].name] for feed in jpeg)]
    file = folder / "train.npz"
    np.savez(file, **{input_name: np.concatenate(images)})
    return file


class Bench:
    """One model with its data."""

    def __init__(self, name: str, threads: int, folder: Path) -> None:
        self.name, self.threads = name, threads
        file = DATA / f"{name}_cifar10.onnx"
        self.original = load(file)
        self.inputs = Session(file).inputs
        self.train = load_dataset({"calibration": train_images(folder, self.inputs[0].name)}, self.inputs).calibration
        self.tests = {"exact": self._test("cifar10"), "jpeg": self._test("cifar10_jpeg")}
        manager = Manager(self.context(0), NoEvaluator(), (), "none")
        self.clean = manager.run(self.original, from_name("fuse")).checkpoints[-1].model
        self.macs = model_cost(self.clean).macs

    def _test(self, name: str) -> Samples:
        samples = load_dataset(DATA / f"{name}.yaml", self.inputs).evaluation
        assert samples is not None
        return samples

    def context(self, seed: int) -> Context:
        return Context(load_target("cpu"), self.original, calibration=getattr(self, "train", None), seed=seed,
                       threads=self.threads)  # fmt: skip

    def top1(self, model: Model) -> dict[str, float]:
        context = self.context(0)
        session = Session(OnnxRuntimeBackend().prepare(model, context.target).delivered, threads=self.threads)
        metric = resolve_metric("top1", has_labels=True)
        return {name: round(evaluate(session, samples, metric).value, 4) for name, samples in self.tests.items()}

    def runs(self, pruning: Prune, seed: int, recovery: dict[str, Pass]) -> Iterator[dict[str, Any]]:
        """The score after the pruning and after each recovery, all in one transaction."""
        model = clone(self.clean)
        context = replace(self.context(seed), transaction=Transaction(clone(self.clean)))
        for stage, step in {"pruned": pruning, **recovery}.items():
            began = time.perf_counter()
            step.run(model, context)
            seconds = time.perf_counter() - began
            yield {"model": self.name, "criterion": pruning.criterion, "allocation": pruning.allocation, "seed": seed,
                   "stage": stage, "factor": round(self.macs / model_cost(model).macs, 3), "seconds": round(seconds, 1),
                   "steps": pruning.steps, "threads": self.threads, **self.top1(model)}  # fmt: skip


def measure(arguments: argparse.Namespace) -> None:
    """Run every combination."""
    with tempfile.TemporaryDirectory() as folder:
        for name in arguments.models.split(","):
            bench = Bench(name, arguments.threads, Path(folder))
            print(json.dumps({"model": name, "stage": "original", **bench.top1(bench.original)}), flush=True)
            for factor in map(float, arguments.factors.split(",")):
                for criterion in arguments.criteria.split(","):
                    for seed in range(arguments.first_seed, arguments.first_seed + arguments.seeds):
                        pruning = Prune(macs_kept=1 / factor, criterion=criterion, allocation=arguments.allocation,
                                    steps=arguments.steps)  # fmt: skip
                        recovery: dict[str, Pass] = {"least squares": Reconstruct()}
                        if arguments.minutes:
                            recovery["distilled"] = Distill(minutes=arguments.minutes)
                        for line in bench.runs(pruning, seed, recovery):
                            print(json.dumps({"asked": factor, "minutes": arguments.minutes, **line}), flush=True)


def tabulate(file: Path) -> None:
    """The results as tables: one row a criterion, points of top-1 on the exact and (JPEG) images."""
    cells: dict[tuple[Any, ...], dict[str, list[dict[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    for line in map(json.loads, file.read_text().splitlines()):
        key = (line["model"], line.get("asked"), line.get("criterion"), line.get("allocation"), line.get("minutes"))
        cells[key][line["stage"]].append(line)
    stages = ("pruned", "least squares", "distilled")
    print("| model | MACs | criterion | allocation | " + " | ".join(stages) + " |\n|---|---|---|---|---|---|---|")
    for (model, asked, criterion, allocation, minutes), by_stage in cells.items():
        if "original" in by_stage:
            print(f"| {model} | 1x | – | – | {_cell(by_stage['original'])} | | |")
            continue
        columns = [_cell(by_stage[stage]) if stage in by_stage else "" for stage in stages]
        columns[-1] += f" in {minutes:g} min" if columns[-1] else ""
        print(f"| {model} | {asked}x | {criterion} | {allocation} | {' | '.join(columns)} |")


def _cell(lines: list[dict[str, Any]]) -> str:
    texts = []
    for name in ("exact", "jpeg"):
        values = [100 * line[name] for line in lines]
        spread = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
        texts.append(f"{statistics.mean(values):.1f}{spread}")
    return f"{texts[0]} ({texts[1]})"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=sys.modules[__name__].__doc__.splitlines()[0])
    parser.add_argument("--models", default="resnet20,resnet32")
    parser.add_argument("--factors", default=",".join(map(str, FACTORS)))
    names = ["auto", *(name for name in criterion_names() if name != "batch_norm")]
    parser.add_argument("--criteria", default=",".join(names))
    parser.add_argument("--allocation", default="auto")
    parser.add_argument("--steps", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=0.0)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--table", type=Path)
    given = parser.parse_args()
    tabulate(given.table) if given.table else measure(given)
