"""Speed-ups asked of low-rank decomposition and measured, on VGG-16 with random weights of decaying spectra.

    python benchmarks/lowrank_speed.py [--image 224] [--threads 1] [--speedup 1.5] [--method svd]

Speed does not depend on what the weights are, but for their ranks. The decomposed model is timed in turn with the one
that it was, after the pass has run, in new sessions.
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from graphpress.analysis.cost import model_cost
from graphpress.analysis.linear import linear_op_of
from graphpress.ir import Editor, Model, clone
from graphpress.manager.contract import Context
from graphpress.manager.prepare import prepare
from graphpress.models import build
from graphpress.passes.lowrank.lowrank import LowRank
from graphpress.runtime import Session, compare_latency
from graphpress.targets import load_target

SHAPES = {224: {"hidden": 4096, "classes": 1000}, 32: {"hidden": 512, "classes": 10}}
DECAY, DIRECTIONS, NOISE = 0.75, 256, 0.1


def vgg(image: int) -> Model:
    """VGG-16 whose weights are sums of products, the i-th of size i^-DECAY, and some noise."""
    model = build("vgg", depth=16, width=64, image=image, **SHAPES[image])
    prepare(model, {})
    edit, random = Editor(model), np.random.default_rng(0)
    for node in list(model.graph):
        op = linear_op_of(node)
        if op is not None:
            _, features, outputs = op.matrix_shape
            sizes = np.arange(1, min(features, outputs, DIRECTIONS) + 1, dtype=np.float32) ** -DECAY
            left, right = random.normal(size=(features, sizes.size)), random.normal(size=(sizes.size, outputs))
            signal = (left * sizes).astype(np.float32) @ right.astype(np.float32)
            noise = random.standard_normal((features, outputs), np.float32) * NOISE
            matrix = (signal / signal.std() + noise) * op.stored_weight().std()
            edit.own_constant(node, op.weight_index, op.from_matrix(matrix[None].astype(np.float32)))
    return model


def main() -> None:
    """Print what was asked for, what the pass says and what is measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--image", type=int, default=224, choices=list(SHAPES))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--speedup", type=float, default=1.5)
    parser.add_argument("--method", default="svd")
    args = parser.parse_args()
    model = vgg(args.image)
    changed, began = clone(model), time.monotonic()
    context = Context(target=load_target("cpu"), original=model, threads=args.threads)
    outcome = LowRank(method=args.method, speedup=args.speedup).run(changed, context)
    print(f"planned and decomposed in {time.monotonic() - began:.0f} s: {[n for n in outcome.notes if 'speedup' in n]}")
    first, second = (Session(each, threads=args.threads) for each in (model, changed))
    spec = first.inputs[0]
    feed = {spec.name: np.random.default_rng(1).normal(size=(1, 3, args.image, args.image)).astype(np.float32)}
    timing = compare_latency(lambda: first.run(feed), lambda: second.run(feed), seconds=15)
    print(
        f"asked {args.speedup:g}x, measured {1 / timing.ratio:.2f}x ({1 / timing.high:.2f} to {1 / timing.low:.2f}); "
        f"MACs {model_cost(changed).macs / model_cost(model).macs:.2f}"
    )


if __name__ == "__main__":
    main()
