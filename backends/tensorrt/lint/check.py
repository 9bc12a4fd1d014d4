"""The linter: every rule over every graph of a model.

A finding is fatal where the parser or the builder gives no engine, or one that computes something else; the others are
nodes that run, but in another type or on another device than the model says. Each names a node, the reason, and what
to do about it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from graphpress.backends.tensorrt.lint.device import Device
from graphpress.backends.tensorrt.lint.dla import dla_findings
from graphpress.backends.tensorrt.lint.finding import Finding
from graphpress.backends.tensorrt.lint.limits import limit_findings
from graphpress.backends.tensorrt.lint.operators import operator_findings
from graphpress.backends.tensorrt.lint.pinned import pinned_findings
from graphpress.backends.tensorrt.lint.quantization import grid_findings, integer_findings
from graphpress.backends.tensorrt.lint.types import mixture_findings, type_findings
from graphpress.ir import Model, Refusal
from graphpress.targets import Target

Rules = Callable[[Model, Device], Iterable[Finding]]

ALWAYS: tuple[Rules, ...] = (operator_findings, limit_findings, type_findings, grid_findings)

ON_IMPORT: tuple[Rules, ...] = (*ALWAYS, pinned_findings)
"""What passes do not change for the better, as far as it hangs on data that is known only at run time."""

WHEN_LEGAL: tuple[Rules, ...] = (*ALWAYS, mixture_findings, integer_findings, dla_findings)


def lint(model: Model, target: Target, proof: Iterable[Refusal] = ()) -> list[Refusal]:
    """Nodes that the target would refuse, or run otherwise than the model says; empty for a model that is fine.

    Args:
        model: a legalised model: quantisation stands in Q/DQ nodes, float types in tensors. Not changed.
        target: a target whose backend is tensorrt.
        proof: what a build found out. In which type a node computes is then known, and of nodes named there nothing
            is foretold.
    """
    device, proven = Device.of(target), {one.where for one in proof}
    return _refusals(
        finding
        for rule in WHEN_LEGAL
        for finding in rule(model, device)
        if finding.fatal or rule is not integer_findings or finding.refusal.where not in proven
    )


def refused(model: Model, target: Target) -> list[Refusal]:
    """Of what ``lint`` finds, that for which the target's TensorRT makes no engine, or a wrong one."""
    return _refusals(one for one in _findings(WHEN_LEGAL, model, Device.of(target)) if one.fatal)


def unsupported(model: Model, target: Target) -> list[Refusal]:
    """What of an input model the target cannot take, whatever is done to it; nodes that fold away don't count."""
    device = Device.of(target, before_folding=True)
    return _refusals(one for one in _findings(ON_IMPORT, model, device) if one.fatal)


def _findings(rules: Iterable[Rules], model: Model, device: Device) -> Iterator[Finding]:
    for rule in rules:
        yield from rule(model, device)


def _refusals(findings: Iterable[Finding]) -> list[Refusal]:
    return list(dict.fromkeys(finding.refusal for finding in findings))
