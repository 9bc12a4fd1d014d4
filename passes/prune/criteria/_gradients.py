"""Gradients of a loss by the weights, micro-batch by micro-batch, through the framework bridge.

The derivative by a gate that scales unit u where it is written or read is the sum of g·w over the unit's slice of that
weight (Euler's identity for a linear operator): weights and their gradients are all that gates need, at any operator.

The loss is the negative log-likelihood of targets. The model against itself has no gradient, so that without labels
targets are drawn, seeded, from a distribution around the model's outputs. The mean square of such gradients is the
Fisher information of that distribution:

    labels   the data's, where there is one class a sample; else as ``outputs``
    sampled  classes drawn from the predicted probabilities: the true Fisher information of a classifier. Confident
             predictions have next to no gradient, so that few samples decide
    outputs  a Gaussian around the outputs, of their own scale: E(JᵀJ), the Gauss-Newton matrix of the squared change of
             the outputs. Every sample counts; of probabilities, the logarithm is taken
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from graphpress import torch_bridge
from graphpress.data import Feed, Samples, batch_of
from graphpress.errors import UsageError
from graphpress.evaluation.distributions import class_scores
from graphpress.evaluation.roles import are_probabilities
from graphpress.ir import Model, label
from graphpress.manager.contract import Context
from graphpress.passes.prune.criteria._data import no_samples, some_samples

Targets = Literal["labels", "sampled", "outputs"]

_TINY = 1e-30
_FIRST_LOOK = 32
"""Samples from which the scale of outputs is taken."""


@dataclass(frozen=True)
class GradientOptions:
    """Which gradients are taken.

    Args:
        samples: about so many samples, in whole feeds.
        batch: samples of a micro-batch, where the model leaves its batch size open.
        targets: where the loss comes from.
    """

    samples: int
    batch: int
    targets: Targets


def stream_gradients(
    model: Model, names: Collection[str], context: Context, options: GradientOptions
) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
    """Of each micro-batch, its size and the gradients of its mean loss by the name of the initializer.

    Names that are no trainable initializer are absent. The arrays are overwritten by the next step.

    Raises:
        UsageError: no output can be differentiated.
        DataError: there are no samples.
    """
    import torch

    trained = torch_bridge.to_module(model, trainable=lambda value: value.name in names)
    parameters = {name: trained.parameters[name] for name in sorted(names) if name in trained.parameters}
    if not parameters:
        return
    results = [label(value) for value in model.graph.outputs]

    def run(feed: Feed) -> dict[str, Any]:
        outputs = trained.module({name: torch.tensor(array) for name, array in feed.items()})
        return {name: outputs[name] for name in results if outputs[name].is_floating_point()}

    threads = torch.get_num_threads()
    torch.set_num_threads(context.threads)
    try:
        with torch.no_grad():
            first, _ = next(_micro_batches(model, context, replace(options, batch=_FIRST_LOOK)), (None, None))
            if first is None:
                raise no_samples()
            likelihood = _Likelihood.of(run(first), batch_of(first), options.targets, context.seed)
        for feed, labels in context.progress.track(_micro_batches(model, context, options), "gradients"):
            loss = likelihood.loss(run(feed), labels)
            gradients = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True, materialize_grads=True)
            yield (
                batch_of(feed),
                {name: tensor.float().numpy() for name, tensor in zip(parameters, gradients, strict=True)},
            )
    finally:
        torch.set_num_threads(threads)


@dataclass(frozen=True)
class _Likelihood:
    """How likely targets are under the model's outputs.

    Args:
        classes: the output that holds class scores, if one does.
        probabilities: it holds these, not their logarithms.
        scales: root mean square of each output, of which a Gaussian's deviation is made.
        targets: where they come from.
        random: draws them.
    """

    classes: str | None
    probabilities: bool
    scales: dict[str, float]
    targets: Targets
    random: np.random.Generator

    @staticmethod
    def of(outputs: dict[str, Any], rows: int, targets: Targets, seed: int) -> _Likelihood:
        """Look at outputs of some samples, tensors by name."""
        arrays = {name: tensor.float().numpy() for name, tensor in outputs.items()}
        name = class_scores(arrays, rows)
        probabilities = name is not None and are_probabilities(arrays[name].reshape(rows, -1))
        if name is not None and probabilities:
            arrays[name] = np.log(np.maximum(arrays[name], _TINY))
        scales = {key: max(float(np.sqrt(np.square(array).mean())), _TINY) for key, array in arrays.items()}
        return _Likelihood(name, probabilities, scales, targets, np.random.default_rng(seed))

    def loss(self, outputs: dict[str, Any], labels: np.ndarray | None) -> Any:
        """Mean negative log-likelihood over the samples: a tensor with a gradient."""
        import torch

        outputs = {name: tensor for name, tensor in outputs.items() if tensor.requires_grad}
        if not outputs:
            raise UsageError(
                "no output of the model can be differentiated",
                where="gradients",
                fix="take a criterion without gradients, such as wanda",
            )
        if self.classes not in outputs:
            return torch.stack([self._gaussian(tensor, self.scales[name]) for name, tensor in outputs.items()]).sum()
        scores = outputs[self.classes].flatten(1)
        logits = torch.log(scores.clamp_min(_TINY)) if self.probabilities else scores
        logs = torch.log_softmax(logits, 1)
        classes = _usable(labels, scores.shape[1]) if self.targets == "labels" else None
        if classes is None and self.targets == "sampled":
            classes = _drawn(logs.detach().exp().double().numpy(), self.random)
        if classes is None:
            return self._gaussian(logits, self.scales[self.classes])
        return -logs.gather(1, torch.tensor(classes)[:, None]).mean()

    def _gaussian(self, output: Any, scale: float) -> Any:
        """What has the gradient of a Gaussian's log-likelihood at targets drawn from it."""
        import torch

        noise = torch.tensor(self.random.standard_normal(tuple(output.shape)), dtype=output.dtype)
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
    for feed, labels in _labeled(context, options):
        rows = {len(array) if np.ndim(array) else 0 for array in feed.values()}
        count = rows.pop() if is_open and len(rows) == 1 else 0
        if not count:
            yield feed, labels
        for start in range(0, count, options.batch):
            some = slice(start, start + options.batch)
            yield {name: array[some] for name, array in feed.items()}, None if labels is None else labels[some]


def _labeled(context: Context, options: GradientOptions) -> Iterator[tuple[Feed, np.ndarray | None]]:
    """Feeds with a label for each of their rows where there are labels."""
    data = context.calibration
    assert data is not None
    some = some_samples(data, options.samples)
    if not isinstance(some, Samples):
        yield from ((feed, None) for feed in some)
        return
    for batch in some.counted_batches():
        labels = batch.labels
        if labels is not None:
            labels = np.concatenate([labels, np.repeat(labels[-1:], batch.padding, axis=0)])
        yield batch.feed, labels
