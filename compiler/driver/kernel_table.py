"""How long nodes and kernels of what is delivered take, for the report: kernels with the products of their nodes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate

from graphpress.analysis.cost import ModelCost
from graphpress.backend import Artifact, KernelTime, TimesKernels, TimesNodes
from graphpress.driver.job import Job
from graphpress.report.records import KernelRecord


def node_times(job: Job, artifact: Artifact) -> Mapping[str, float]:
    """How long each node takes, by name, where the artifact is run on this machine, and says that."""
    if not (job.runs_here and job.inputs.runs and isinstance(artifact, TimesNodes)):
        return {}
    return artifact.node_seconds(job.inputs.single)


def kernel_times(job: Job, artifact: Artifact) -> Sequence[KernelTime]:
    """How long each kernel takes, where the artifact has kernels of its own that run on this machine."""
    if not (job.runs_here and job.inputs.runs and isinstance(artifact, TimesKernels)):
        return ()
    return artifact.kernel_times(job.inputs.single)


def kernel_records(kernels: Sequence[KernelTime], cost: ModelCost) -> list[KernelRecord]:
    """One record a kernel, in the order of a call.

    Args:
        kernels: timed.
        cost: of the model that they compute, for the samples that they were timed with.
    """
    macs = _macs(kernels, {layer.name: layer.macs or 0 for layer in cost.layers})
    starts = accumulate((kernel.seconds for kernel in kernels), initial=0.0)
    return [
        KernelRecord(
            kernel=kernel.kernel,
            nodes=tuple(kernel.nodes),
            shape=kernel.shape,
            setting=kernel.setting,
            arithmetic=kernel.arithmetic,
            macs=done or None,
            seconds=kernel.seconds,
            start_seconds=start,
            peak_share=done / kernel.seconds / kernel.peak if done and kernel.seconds and kernel.peak else None,
        )
        for kernel, done, start in zip(kernels, macs, starts, strict=False)
    ]


def node_seconds(kernels: Sequence[KernelTime]) -> dict[str, float]:
    """The time of each node that kernels are named after, of all of its kernels."""
    times: dict[str, float] = {}
    for kernel in kernels:
        for node in kernel.nodes[:1]:
            times[node] = times.get(node, 0.0) + kernel.seconds
    return times


def _macs(kernels: Sequence[KernelTime], of_node: Mapping[str, int]) -> list[int]:
    """Of each kernel: a node that several compute together is multiplied in the one that takes the longest."""
    places: dict[str, int] = {}
    for place, kernel in enumerate(kernels):
        for node in kernel.nodes:
            if node not in places or kernel.seconds > kernels[places[node]].seconds:
                places[node] = place
    macs = [0] * len(kernels)
    for node, place in places.items():
        macs[place] += of_node.get(node, 0)
    return macs
