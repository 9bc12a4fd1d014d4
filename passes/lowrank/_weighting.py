"""How much outputs of layers matter to what the model answers: Fisher information, from gradients.

    error(Ŵ) = tr S (W − Ŵ)ᵀ C (W − Ŵ)       S = E GᵀG / features,   G the gradient of the log-likelihood by the weight

the Kronecker factor over the outputs of the information of the weight. Its diagonal alone is that of FWSVD (Hsu et al.,
Language model compression with weighted low-rank factorization, arXiv 2207.00112) taken over outputs; C is
the other factor already. S is shrunk towards all outputs alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from graphpress import torch_bridge
from graphpress.errors import BackendError, UsageError
from graphpress.ir import Model, label
from graphpress.manager.contract import Context
from graphpress.passes.lowrank._candidates import DecomposableLayer
from graphpress.passes.prune.criteria._gradients import GradientOptions, stream_gradients

WHERE = "lowrank{weighting=fisher}"

BATCH = 4
"""Samples of a micro-batch."""
EVEN = 0.1
"""Share of the information that all outputs have alike: few samples do not show all of it."""


def weighted(
    model: Model, layers: Mapping[str, DecomposableLayer], samples: int, context: Context
) -> dict[str, DecomposableLayer]:
    """The layers with how much their outputs matter; those whose weight has no gradient as they are.

    Args:
        model: not changed.
        layers: by name.
        samples: about how many are looked at.
        context: data, threads and seed.

    Raises:
        UsageError: there is no data, or no output of the model can be differentiated.
        BackendError: there is no framework.
        BridgeError: it cannot differentiate the model.
    """
    _check(context)
    information = dict[str, np.ndarray]()
    options = GradientOptions(samples, BATCH, targets="outputs")
    weights = {label(layer.op.weight) for layer in layers.values()}
    for rows, gradients in stream_gradients(model, weights, context, options):
        for name, layer in layers.items():
            gradient = gradients.get(label(layer.op.weight))
            if gradient is not None:
                matrix = rows * layer.op.as_matrix(gradient.astype(float))
                information[name] = information.get(name, np.zeros(())) + matrix.swapaxes(1, 2) @ matrix
    return {
        name: replace(layer, output_root=root_of(information[name])) if name in information else layer
        for name, layer in layers.items()
    }


def _check(context: Context) -> None:
    """Gradients take data and a framework."""
    if context.calibration is None:
        raise UsageError("needs calibration data", where=WHERE, fix="give it with --data FILE, or leave weighting out")
    framework = torch_bridge.available()
    if not framework.works:
        raise BackendError(framework.detail, where=WHERE, fix=framework.install)


def root_of(information: np.ndarray) -> np.ndarray | None:
    """S^½ of mean 1 on the diagonal, ``[blocks, outputs, outputs]``; None where nothing is known."""
    outputs = information.shape[-1]
    size = float(np.einsum("boo->", information)) / (len(information) * outputs)
    if not np.isfinite(information).all() or size <= 0:
        return None
    values, vectors = np.linalg.eigh(information / size)
    root: np.ndarray = (vectors * np.sqrt(EVEN + (1 - EVEN) * np.maximum(values, 0.0))[:, None, :]) @ vectors.swapaxes(
        1, 2
    )
    return root
