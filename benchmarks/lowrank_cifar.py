"""Low-rank decomposition of nets trained on CIFAR-10: top-1 by method and factor, without and with recovery.

    GRAPHPRESS_DATA=… python benchmarks/lowrank_cifar.py /var/tmp/nets --nets vgg_small --methods auto --factors 2 3
    GRAPHPRESS_DATA=… python benchmarks/lowrank_cifar.py /var/tmp/nets --minutes 10 >> results.jsonl
    python benchmarks/lowrank_cifar.py /var/tmp/nets --table results.jsonl

Nets that are not in the folder are trained first (``cifar_nets.py``). Decomposing and least squares see 512 exact train
images, distillation all 15,292 (5,292 exact, 10,000 JPEG), none with labels; nothing sees a test image before the end.
``exact`` is the top-1 on the 500 exact test images; ``jpeg`` on the 4,500 re-compressed ones, on which every model
loses some points; ``unseen`` on the 4,780 exact train images that are in no calibration, where what is lost shows more
finely. Each line of the results is one JSON object.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from cifar_nets import NETS, trained
from pruning import train_images

from graphpress.allocation.speedup import latency_ratio
from graphpress.analysis.cost import model_cost
from graphpress.data import ModelInput, Samples, load_dataset
from graphpress.evaluation import EvaluationService, evaluate, resolve_metric
from graphpress.evaluation.sensitivity import as_it_is
from graphpress.ir import Model, clone, load
from graphpress.manager.contract import Context, Pass
from graphpress.manager.evaluator import NoEvaluator
from graphpress.manager.manager import Manager
from graphpress.manager.recipe import from_name
from graphpress.manager.transaction import Transaction
from graphpress.passes.lowrank.lowrank import LowRank
from graphpress.passes.recovery.reconstruct import Reconstruct
from graphpress.passes.training.distill import Distill
from graphpress.runtime import Session
from graphpress.targets import load_target

DATA = Path(os.environ.get("GRAPHPRESS_DATA", ""))
METHODS = ("auto", "svd", "tucker", "spatial", "cp")
TESTS = ("exact", "jpeg", "unseen")
STAGES = ("decomposed", "least squares", "distilled")


class Bench:
    """A net with its data.

    Args:
        file: the net.
        threads: of the runtime and of training.
        folder: for the training images.
    """

    def __init__(self, file: Path, threads: int, folder: Path) -> None:
        self.threads, original, inputs = threads, load(file), Session(file).inputs
        exact, jpeg = (load_dataset(DATA / f"{name}.yaml", inputs) for name in ("cifar10", "cifar10_jpeg"))
        self.training = load_dataset({"calibration": train_images(folder, inputs[0].name)}, inputs).calibration
        self.tests: dict[str, Samples | None] = dict(
            zip(TESTS, (exact.evaluation, jpeg.evaluation, unseen(folder, inputs)), strict=True)
        )
        service = EvaluationService.of(exact, None, Session(original, threads=threads), as_it_is, threads)
        self.context = Context(
            load_target("cpu"), original, calibration=exact.calibration, threads=threads, evaluation=service
        )
        manager = Manager(self.context, NoEvaluator(), (), "none")
        self.model = manager.run(original, from_name("fuse")).checkpoints[-1].model
        self.feed = {inputs[0].name: next(iter(exact.calibration))[inputs[0].name][:1]}

    def top1(self, model: Model) -> dict[str, float]:
        """On all images that nothing was chosen by."""
        metric, session = resolve_metric("top1", has_labels=True), Session(model, threads=self.threads)
        return {name: round(evaluate(session, samples, metric).value, 4) for name, samples in self.tests.items()}

    def size(self, model: Model) -> dict[str, float]:
        """What the model costs, relative to the net."""
        before, after = model_cost(self.model), model_cost(model)
        ratio = latency_ratio(Session(self.model, threads=self.threads), model, self.feed, self.threads)
        return {
            "macs": round(before.macs / after.macs, 3),
            "parameters": round(before.parameters / after.parameters, 3),
            "speedup": round(1 / ratio, 2),
        }

    def runs(self, method: str, factor: float, minutes: float) -> Iterator[dict[str, Any]]:
        """The net decomposed, and after each recovery, all in one transaction."""
        context = replace(self.context, transaction=Transaction(clone(self.model)), decisions={})
        steps: dict[str, tuple[Pass, Context]] = {
            "decomposed": (LowRank(method=method, macs_kept=1 / factor, recover=False), context),
            "least squares": (Reconstruct(), context),
        }
        if minutes:
            steps["distilled"] = Distill(minutes=minutes), replace(context, calibration=self.training)
        model = clone(self.model)
        for stage, (step, given) in steps.items():
            began = time.perf_counter()
            notes = step.run(model, given).notes
            seconds = round(time.perf_counter() - began, 1)
            size = self.size(model) if stage == "decomposed" else {}
            yield {"stage": stage, "seconds": seconds, **size, **self.top1(model), "notes": notes}


def unseen(folder: Path, inputs: Sequence[ModelInput]) -> Samples | None:
    """The exact train images that are in no calibration, with their labels."""
    spec = (DATA / "cifar10.yaml").read_text()
    for old, new in {
        "x_test": "x_train",
        "y_test": "y_train",
        "source: ": f"source: {DATA}/",
        "evaluation:": "evaluation:\n  slice: [512, 5292]",
    }.items():
        spec = spec.replace(old, new)
    (folder / "unseen.yaml").write_text(spec)
    return load_dataset(folder / "unseen.yaml", inputs).evaluation


def file_of(name: str, folder: Path) -> Path:
    """The file of a net."""
    return trained(name, folder) if name in NETS else DATA / f"{name}_cifar10.onnx"


def measure(given: argparse.Namespace) -> None:
    """Every combination."""
    for name in given.nets:
        with tempfile.TemporaryDirectory() as scratch:
            bench = Bench(file_of(name, given.folder), given.threads, Path(scratch))
            print(json.dumps({"net": name, "stage": "original", **bench.top1(bench.model)}), flush=True)
            for factor, method in itertools.product(given.factors, given.methods):
                for line in bench.runs(method, factor, given.minutes):
                    print(json.dumps({"net": name, "method": method, "asked": factor, **line}), flush=True)


def tabulate(file: Path) -> None:
    """The results as a table: one row a method and factor, top-1 on the test images (re-compressed; unseen)."""
    rows: dict[tuple[Any, ...], dict[str, dict[str, Any]]] = defaultdict(dict)
    for line in map(json.loads, file.read_text().splitlines()):
        rows[line["net"], line.get("asked", 1), line.get("method", "–")][line["stage"]] = line
    print("| net | method | MACs | parameters | time | " + " | ".join(STAGES) + " |\n" + "|---" * 8 + "|")
    for (net, _, method), stages in rows.items():
        size = stages.get("decomposed", {})
        costs = [f"{size[key]:.2f}x" if key in size else "1x" for key in ("macs", "parameters", "speedup")]
        cells = [_cell(stages.get(stage)) for stage in STAGES] if size else [_cell(stages["original"]), "", ""]
        print(f"| {' | '.join([net, method, *costs, *cells])} |")


def _cell(line: dict[str, Any] | None) -> str:
    if line is None:
        return ""
    exact, *others = (f"{100 * line[name]:.1f}" for name in TESTS)
    return f"{exact} ({'; '.join(others)})"


def main() -> None:
    """Measure, or print what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--nets", nargs="*", default=[*NETS, "resnet20"])
    parser.add_argument("--methods", nargs="*", default=METHODS, choices=METHODS)
    parser.add_argument("--factors", nargs="*", type=float, default=[2.0, 3.0, 4.0])
    parser.add_argument("--minutes", type=float, default=0.0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--table", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    tabulate(given.table) if given.table else measure(given)


if __name__ == "__main__":
    main()
