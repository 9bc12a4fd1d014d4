"""Gradients of a loss by the weights, micro-batch by micro-batch, through the framework bridge.

The derivative by a gate that scales unit u where it is written or read is the sum of g·w over the unit's slice of that
weight (Euler's identity for a linear operator): weights and their gradients are all that gates need, at any operator.

The loss is the negative log-likelihood of targets. The model against itself has no gradient, so that without labels
targets are drawn, seeded, from a distribution around what the model says. The mean square of such gradients is the
Fisher information of that distribution:

    labels   the data's, where there is one class a sample; else as ``outputs``
    sampled  classes drawn from the predicted probabilities: the true Fisher information of a classifier. Confident
             predictions have next to no gradient, so that few samples decide
    outputs  a Gaussian around the outputs, of their own scale: E(JᵀJ), the Gauss-Newton matrix of the squared change of
             the outputs. Every sample counts; of probabilities, the logarithm is taken
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from graphpress.bridge import load_bridge
from graphpress.data import Samples
from graphpress.ir import Model, label
from graphpress.manager.contract import Context, Feed
from graphpress.passes.prune.criteria._outputs import are_probabilities, class_scores

Targets = Literal["labels", "sampled", "outputs"]

_TINY = 1e-30


@dataclass(frozen=True)
class GradientOptions:
    """Which gradients are taken.

    Args:
        samples: at most so many samples, evenly spaced where the data allows it.
        batch: samples of a micro-batch, where the model leaves its batch size open.
        targets: where the loss comes from.
    """

    samples: int
    batch: int
    targets: Targets


def stream_gradients(
    model: Model, names: Collection[str], context: Context, options: GradientOptions
) -> Iterator[dict[str, np.ndarray]]:
    """Gradients of the mean loss of each micro-batch, by the name of the initialiser.

    The arrays are overwritten by the next step.
    """
    import torch

    trained = load_bridge().to_framework(model, trainable=lambda value: value.name in names)
    parameters = {name: trained.parameters[name] for name in sorted(names) if name in trained.parameters}
    random = np.random.default_rng(context.seed)
    threads = torch.get_num_threads()
    torch.set_num_threads(context.threads)
    try:
        for feed, labels in context.progress.track(_micro_batches(model, context, options), "gradients"):
            outputs = trained.module({name: torch.tensor(array) for name, array in feed.items()})
            results = {name: outputs[name] for name in (label(value) for value in model.graph.outputs)}
            loss = _loss(results, labels, options.targets, random)
            found = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
            yield {
                name: gradient.numpy() for name, gradient in zip(parameters, found, strict=True) if gradient is not None
            }
    finally:
        torch.set_num_threads(threads)


def _loss(outputs: dict[str, Any], labels: np.ndarray | None, targets: Targets, random: np.random.Generator) -> Any:
    """Mean negative log-likelihood, a tensor with a gradient."""
    import torch

    arrays = {name: tensor.detach().numpy() for name, tensor in outputs.items()}
    rows = len(next((array for array in arrays.values() if array.ndim), np.zeros(1)))
    name = class_scores(arrays, rows)
    if name is None:
        floats = [tensor for tensor in outputs.values() if tensor.requires_grad]
        return torch.stack([_gaussian(tensor, random) for tensor in floats]).sum()
    scores = outputs[name].reshape(rows, -1)
    logits = torch.log(scores.clamp_min(_TINY)) if are_probabilities(arrays[name].reshape(rows, -1)) else scores
    logs = torch.log_softmax(logits, 1)
    classes = _usable(labels, scores.shape[1]) if targets == "labels" else None
    if classes is None and targets == "sampled":
        classes = _drawn(logs.detach().exp().double().numpy(), random)
    if classes is None:
        return _gaussian(logits, random)
    return -logs.gather(1, torch.tensor(classes)[:, None]).mean()


def _gaussian(output: Any, random: np.random.Generator) -> Any:
    """What has the gradient of a Gaussian's log-likelihood at targets drawn from it; the output's rms is its scale."""
    import torch

    noise = torch.tensor(random.standard_normal(tuple(output.shape)), dtype=output.dtype)
    scale = output.detach().square().mean().sqrt().clamp_min(_TINY)
    return (noise * output).sum() / (scale * max(len(output) if output.ndim else 1, 1))


def _usable(labels: np.ndarray | None, classes: int) -> np.ndarray | None:
    if labels is None or labels.ndim != 1 or labels.dtype.kind not in "iu" or not len(labels):
        return None
    return labels.astype(np.int64) if labels.min() >= 0 and labels.max() < classes else None


def _drawn(probabilities: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """One class a row, drawn by inverting the cumulative distribution."""
    cumulative = np.cumsum(probabilities, axis=1)
    draws = random.random((len(probabilities), 1)) * cumulative[:, -1:]
    return np.asarray((cumulative <= draws).sum(axis=1).clip(max=probabilities.shape[1] - 1))


# -- data -----------------------------------------------------------------------------------------------------


def _micro_batches(
    model: Model, context: Context, options: GradientOptions
) -> Iterator[tuple[Feed, np.ndarray | None]]:
    dims = [value.shape for value in model.graph.inputs]
    is_open = all(dim is not None and len(dim) and not isinstance(dim[0], int) for dim in dims)
    for feed, labels in _labelled(context, options):
        rows = {len(array) if np.ndim(array) else 0 for array in feed.values()}
        count = rows.pop() if is_open and len(rows) == 1 else 0
        if not count:
            yield feed, labels
        for start in range(0, count, options.batch):
            some = slice(start, start + options.batch)
            yield {name: array[some] for name, array in feed.items()}, None if labels is None else labels[some]


def _labelled(context: Context, options: GradientOptions) -> Iterator[tuple[Feed, np.ndarray | None]]:
    """Feeds with labels for all of their rows, or without; at most so many samples."""
    data = context.calibration
    assert data is not None
    if isinstance(data, Samples):
        for batch in data.spread(options.samples).counted_batches():
            labels = batch.labels if options.targets == "labels" and not batch.padding else None
            yield batch.feed, labels
        return
    left = options.samples
    for feed in data:
        if left <= 0:
            return
        cut = {name: array[:left] if np.ndim(array) else array for name, array in feed.items()}
        yield cut, None
        left -= max((len(array) for array in cut.values() if np.ndim(array)), default=1)
