"""Low-rank decomposition of trained models: errors of layers in either norm, and accuracy by form and factor.

GRAPHPRESS_DATA=… python benchmarks/lowrank.py                       both tables
GRAPHPRESS_DATA=… python benchmarks/lowrank.py --only accuracy --model resnet20_cifar10.onnx --kept 0.5 0.33

Errors are relative to the variance of a layer's output, on samples that were not looked at; the ratio is that of the
data's norm to the weights' (the plain decomposition, whose bias takes the mean error, too, and without that).
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from pathlib import Path

import numpy as np

from graphpress import optimize
from graphpress.analysis.linear import LinearOp, linear_op_of, parameters_of
from graphpress.data import load_dataset
from graphpress.ir import label, load
from graphpress.manager.prepare import prepare
from graphpress.observation import Moments, Observation, input_moments
from graphpress.passes.lowrank._alternating import decompose
from graphpress.passes.lowrank._choices import rank_at
from graphpress.passes.lowrank._form import Form
from graphpress.passes.lowrank._forms import FORMS
from graphpress.passes.lowrank._problem import LayerProblem, regularized, shape_of_problem
from graphpress.runtime import Session

DATA = Path(os.environ["GRAPHPRESS_DATA"])
MODELS = {
    "resnet20_cifar10.onnx": "cifar10.yaml",
    "resnet32_cifar10.onnx": "cifar10.yaml",
    "mobilenet_v1_0.25_224.onnx": "imagenet500.yaml",
}
SHARES = (0.5, 0.25, 0.125)


def errors(name: str, data: str) -> None:
    """Medians over the layers of a model."""
    model = load(DATA / name)
    prepare(model, {})
    samples = load_dataset(DATA / data, Session(model).inputs)
    ops = [op for node in model.graph if (op := linear_op_of(node)) is not None and min(op.kernel_shape[1:3]) > 1]
    halves = [input_moments(model, ops, feeds, Observation(32)) for feeds in _halves(samples.calibration)]
    print(
        f"\n{name}: {len(ops)} layers\n\n"
        "| form | share of full rank | data's norm | weights' norm | ratio | without bias |"
    )
    print("|---|---|---|---|---|---|")
    for form in FORMS.values():
        fitting = [op for op in ops if _fits(form, op)]
        for share in SHARES if fitting else ():
            rows = np.array([_errors(op, form, share, *(half[label(op.result)] for half in halves)) for op in fitting])
            ratios = np.median(rows[:, 0] / rows[:, 1]), np.median(rows[:, 0] / rows[:, 2])
            ours, plain, _ = np.median(rows, axis=0)
            print(
                f"| {form.name} | {share} | {ours:.4f} | {plain:.4f} | {ratios[0]:.2f} | {ratios[1]:.2f} |", flush=True
            )


def _fits(form: Form, op: LinearOp) -> bool:
    return form.fits(op.kernel_shape[3:]) and form.splits(shape_of_problem(op))


def _halves(samples):
    count = min(512, len(samples.shapes()))
    places = range(count)
    return samples.take(places[::2]), samples.take(places[1::2])


def _errors(op: LinearOp, form: Form, share: float, seen: Moments, held: Moments) -> tuple[float, float, float]:
    """On held-out samples: of the data's norm, of the weights', and of the weights' with the bias as it was."""
    matrix, kernel = parameters_of(op).matrix, op.kernel_shape[3:]
    ours, plain = LayerProblem(matrix, kernel, regularized(seen.covariance)), LayerProblem(matrix, kernel)
    ranks = tuple(rank_at(full, share) for full in form.full_ranks(plain))
    near, far = (form.matrix(decompose(form, task, ranks), task) for task in (ours, plain))
    varied = LayerProblem(matrix, kernel, held.covariance)
    whole = LayerProblem(matrix, kernel, held.gram).energy(matrix - far) / varied.energy(matrix)
    return varied.error(near), varied.error(far), whole


def accuracy(name: str, data: str, kept: list[float], methods: list[str]) -> None:
    """Of the default command with one pass."""
    print(
        f"\n{name}\n\n| form | asked to stay | MACs | parameters | top-1 | layers | time |\n"
        "|---|---|---|---|---|---|---|"
    )
    for method in methods:
        for share in kept:
            report = _report(DATA / name, DATA / data, f"lowrank{{method={method},macs_kept={share},recover=false}}")
            before, after = report["baseline"], report["result"]
            ratios = [after[key] / before[key] for key in ("macs", "parameters", "latency_ms")]
            layers = next(entry for entry in report["passes"] if entry["name"] == "lowrank")["notes"][0].split()[0]
            print(
                f"| {method} | {share} | {ratios[0]:.2f} | {ratios[1]:.2f} | {before['metric']:.3f} → "
                f"{after['metric']:.3f} | {layers} | {ratios[2]:.2f} |",
                flush=True,
            )


def _report(model: Path, data: Path, passes: str) -> dict:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        optimize(
            model, data=str(data), metric="top1", max_drop=None, passes=passes, output=out, allow_worse=True,
            backend="onnxruntime", threads=1,
        )  # fmt: skip
        return json.loads((out / "report.json").read_text())


def main() -> None:
    """Print what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=["errors", "accuracy"])
    parser.add_argument("--model", nargs="*", default=list(MODELS), choices=list(MODELS))
    parser.add_argument("--kept", nargs="*", type=float, default=[0.5, 0.33])
    parser.add_argument("--method", nargs="*", default=["auto", *FORMS])
    args = parser.parse_args()
    for name in args.model:
        if args.only != "accuracy":
            errors(name, MODELS[name])
        if args.only != "errors":
            accuracy(name, MODELS[name], args.kept, args.method)


if __name__ == "__main__":
    main()
