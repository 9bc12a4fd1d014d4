"""The peer Torch-Pruning on the CIFAR-10 ResNet-20: the data, time, threads and factor of ``pruning.py``.

    pip install torch-pruning==1.6.1
    GRAPHPRESS_DATA=... python benchmarks/torch_pruning.py --minutes 10 --threads 1

The peer reads no ONNX file: the network is written down again as a torch module and takes the file's weights. Pruning
as documented: group magnitude (p = 2), one ratio for every layer, the smallest that reaches the factor. Recovery is a
plain loop: the original's scores at temperature 4, shifted and mirrored train images, a cosine over the time given, SGD
with gradients of length 1 at most (far ahead of Adam after one minute). Each line printed is one JSON object.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

# The folder of a script comes first in the search path, where this file would hide the peer of the same name.
sys.path.append(sys.path.pop(0))

import numpy as np
import torch
import torch_pruning as tp
from pruning import Bench, train_images
from torch import Tensor, nn
from torch.nn import functional

from graphpress.evaluation import evaluate, resolve_metric
from graphpress.ir import Model
from graphpress.runtime import Session

TEMPERATURE, SHIFT, BATCH, LONGEST_GRADIENT = 4.0, 4, 128, 1.0
STAGES, BLOCKS = (16, 32, 64), 3
RATES = {"adam": 1e-3, "sgd": 0.05}


class Block(nn.Module):
    """Two convolutions beside a shortcut, which takes every other pixel and pads channels where the width doubles."""

    def __init__(self, before: int, width: int) -> None:
        super().__init__()
        self.stride, self.pad = width // before, (width - before) // 2
        self.conv1 = nn.Conv2d(before, width, 3, self.stride, 1)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv2(functional.relu(self.conv1(x)))
        if self.stride > 1:
            x = functional.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.pad, self.pad))
        return functional.relu(y + x)


class ResNet20(nn.Module):
    """The network of He et al. 2015, section 4.2, its normalizations folded, with the weights of the file."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, STAGES[0], 3, 1, 1)
        widths = [STAGES[0], *(width for width in STAGES for _ in range(BLOCKS))]
        self.blocks = nn.Sequential(*map(Block, widths[:-1], widths[1:]))
        self.linear = nn.Linear(STAGES[-1], 10)
        nodes = (node for node in model.graph if node.op_type in ("Conv", "Gemm"))
        for layer, node in zip(layers_of(self), nodes, strict=True):  # both in the order of the graph
            arrays = (value.const_value.numpy().copy() for value in node.inputs[1:3])
            layer.weight.data, layer.bias.data = map(torch.from_numpy, arrays)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.blocks(functional.relu(self.conv1(x))).mean((2, 3)))


def layers_of(model: nn.Module) -> list[Any]:
    return [layer for layer in model.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]


def prune(original: ResNet20, ratio: float, inner_only: bool = True) -> ResNet20:
    """A copy without this share of the channels of every layer, or of every block's first convolution alone."""
    model, image = copy.deepcopy(original), torch.zeros(1, 3, 32, 32)
    outer = [model.conv1, *(block.conv2 for block in model.blocks)] if inner_only else []
    tp.pruner.MagnitudePruner(model, image, tp.importance.GroupMagnitudeImportance(p=2), pruning_ratio=ratio,
                              ignored_layers=[model.linear, *outer]).step()  # fmt: skip
    model(image)
    return model


def macs(model: ResNet20) -> int:
    """Multiply-accumulates of one image, additions of biases not counted."""
    counts, counted = [0], copy.deepcopy(model)
    for layer in layers_of(counted):
        layer.register_forward_hook(lambda module, _, y: counts.append(y.numel() * module.weight[0].numel()))
    counted(torch.zeros(1, 3, 32, 32))
    return sum(counts)


def prune_to(original: ResNet20, factor: float) -> tuple[ResNet20, float]:
    """Pruned by the smallest ratio that reaches the factor, and the ratio."""
    for percent in range(1, 100):
        model = prune(original, percent / 100)
        if macs(original) / macs(model) >= factor:
            return model, percent / 100
    raise SystemExit(f"no ratio gives {factor}x fewer multiply-accumulates")


def vary(images: Tensor) -> Tensor:
    """Each image shifted by up to four pixels either way, half of them mirrored."""
    count, size = len(images), images.shape[-1]
    padded = functional.pad(images, (SHIFT,) * 4)
    down, right = torch.randint(0, 2 * SHIFT + 1, (2, count, 1))
    along = torch.arange(size)
    rows, columns = along + down, torch.where(torch.rand(count, 1) < 0.5, along.flip(0), along) + right
    pixels = padded.permute(0, 2, 3, 1)[torch.arange(count)[:, None, None], rows[:, :, None], columns[:, None]]
    return pixels.permute(0, 3, 1, 2)


def batches(images: Tensor) -> Iterator[Tensor]:
    while True:
        yield from (vary(images[some]) for some in torch.randperm(len(images)).split(BATCH)[:-1])


def distil(model: nn.Module, teacher: nn.Module, images: Tensor, arguments: argparse.Namespace) -> dict[str, Any]:
    """Train for the time given; how far it came."""
    limit, rate, steps = 60 * arguments.minutes, RATES[arguments.optimizer], 0
    for network in (model, teacher):  # takes a fifth less time
        network.to(memory_format=torch.channels_last)
    optimizer: torch.optim.Optimizer = torch.optim.Adam(model.parameters(), rate)
    if arguments.optimizer == "sgd":
        optimizer = torch.optim.SGD(model.parameters(), rate, momentum=0.9, nesterov=True)
    began, busy = time.perf_counter(), time.process_time()
    for batch in batches(images):
        if (spent := time.perf_counter() - began) >= limit:
            break
        optimizer.param_groups[0]["lr"] = rate * (1 + math.cos(math.pi * spent / limit)) / 2
        with torch.no_grad():
            target = functional.log_softmax(teacher(batch) / TEMPERATURE, 1)
        prediction = functional.log_softmax(model(batch) / TEMPERATURE, 1)
        loss = TEMPERATURE**2 * functional.kl_div(prediction, target, reduction="batchmean", log_target=True)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), LONGEST_GRADIENT)
        optimizer.step()
        steps += 1
    return {"optimizer": arguments.optimizer, "rate": rate, "steps": steps, "minutes": arguments.minutes,
            "cpu_seconds": round(time.process_time() - busy, 1), "threads": arguments.threads}  # fmt: skip


def run(model: nn.Module, feed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    with torch.no_grad():
        return {"logits": model(torch.from_numpy(feed["input"])).numpy()}


def measure(arguments: argparse.Namespace) -> None:
    """Take over, prune, distil."""
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench("resnet20", arguments.threads, Path(folder))
        images = torch.from_numpy(np.load(train_images(Path(folder), "input"))["input"])

    def report(model: nn.Module, stage: str, **more: Any) -> None:
        top1 = resolve_metric("top1", has_labels=True)
        scores = {key: round(evaluate(lambda feed: run(model, feed), samples, top1).value, 4)
                  for key, samples in bench.tests.items()}  # fmt: skip
        line = {"peer": f"torch-pruning {version('torch-pruning')}", "stage": stage, "seed": arguments.seed}
        print(json.dumps({**line, **more, **scores}), flush=True)

    original = ResNet20(bench.original)
    session, feed = Session(bench.original, threads=arguments.threads), {"input": images[:64].numpy()}
    gap = float(np.abs(run(original, feed)["logits"] - session.run(feed)["logits"]).max())
    assert gap < 1e-4, f"the torch module differs from the file by {gap}"
    report(original, "original", macs=macs(original), train_images=len(images), gap=gap)
    try:
        whole = prune(original, 0.3, inner_only=False)
        report(whole, "all layers, ratio 0.3", factor=round(macs(original) / macs(whole), 3))
    except Exception as error:  # the peer's failure is a result, too
        print(json.dumps({"stage": "all layers, ratio 0.3", "fails": f"{type(error).__name__}: {error}"}), flush=True)
    model, ratio = prune_to(original, arguments.factor)
    reached = {"asked": arguments.factor, "factor": round(macs(original) / macs(model), 3), "ratio": ratio}
    report(model, "pruned", **reached)
    if arguments.minutes:
        report(model, "distilled", **reached, **distil(model, original, images, arguments))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=sys.modules[__name__].__doc__.splitlines()[0])
    parser.add_argument("--factor", type=float, default=2.11)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--optimizer", choices=sorted(RATES), default="sgd")
    given = parser.parse_args()
    warnings.filterwarnings("ignore", module="torch_pruning")
    torch.set_num_threads(given.threads)
    torch.manual_seed(given.seed)
    measure(given)
