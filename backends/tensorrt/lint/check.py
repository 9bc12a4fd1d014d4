"""The linter: every rule over every graph of a model.

A finding is fatal where the parser or the builder gives no engine, or one that computes something else; the others are
nodes that run, but in another type or on another device than requested. Each names a node, the reason, and what
to do about it.
"""

from __future__ import annotations

from collections.abc import Iterable

from graphpress.backends.tensorrt.lint.device import Device
from graphpress.backends.tensorrt.lint.dla import dla_findings
from graphpress.backends.tensorrt.lint.grids import grid_findings
from graphpress.backends.tensorrt.lint.imported import pinned_findings
from graphpress.backends.tensorrt.lint.integers import integer_constant_findings
from graphpress.backends.tensorrt.lint.operators import operator_findings
from graphpress.backends.tensorrt.lint.products import integer_findings
from graphpress.backends.tensorrt.lint.types import type_findings, uint8_findings
from graphpress.ir import Model, Refusal
from graphpress.lint import Rule, findings, limit_findings, mixture_findings, refusals
from graphpress.targets import Target

ALWAYS: tuple[Rule[Device], ...] = (
    operator_findings,
    limit_findings,
    type_findings,
    uint8_findings,
    grid_findings,
    integer_constant_findings,
)

ON_IMPORT: tuple[Rule[Device], ...] = (*ALWAYS, pinned_findings)
"""What passes do not change for the better, as far as it hangs on data that is known only at run time."""

MATERIALIZED: tuple[Rule[Device], ...] = (*ALWAYS, mixture_findings, dla_findings)


def lint(model: Model, target: Target, build_findings: Iterable[Refusal] = ()) -> list[Refusal]:
    """Nodes that the target would refuse, or run otherwise than requested; empty for a model that is fine.

    Args:
        model: a materialized model: quantization stands in Q/DQ nodes, float types in tensors. Not changed.
        target: a target whose backend is tensorrt.
        build_findings: what a build found out. In which type a node computes is then known, and of nodes named there
            nothing is predicted.
    """
    device, known = Device.of(target), {refusal.where for refusal in build_findings}
    predicted = (
        finding for finding in integer_findings(model, device) if finding.fatal or finding.refusal.where not in known
    )
    return refusals([*findings(MATERIALIZED, model, device), *predicted])


def unsupported(model: Model, target: Target) -> list[Refusal]:
    """What of an input model the target cannot take, whatever is done to it; nodes that fold away don't count."""
    device = Device.of(target, before_folding=True)
    return refusals(finding for finding in findings(ON_IMPORT, model, device) if finding.fatal)
